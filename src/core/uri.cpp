// See uri.hpp.

#include "core/uri.hpp"

#include <cstring>

#include "core/ascii.hpp"

namespace herald::core {

namespace {

// Appends to a text whose room the caller has seen to.
struct Writer {
    char *begin;
    char *end;
    void Put(std::string_view text) {
        std::memmove(end, text.data(), text.size());
        end += text.size();
    }
    void DropSegment(char *from) {
        while (end > from && *--end != '/') {
        }
    }
};

// RFC 3986, 5.2.4.
void PutWithoutDots(Writer *out, std::string_view path) {
    char *begin = out->end;
    while (!path.empty()) {
        if (path.substr(0, 3) == "../") {
            path.remove_prefix(3);
        } else if (path.substr(0, 2) == "./") {
            path.remove_prefix(2);
        } else if (path.substr(0, 3) == "/./") {
            path.remove_prefix(2);
        } else if (path == "/.") {
            path = "/";
        } else if (path.substr(0, 4) == "/../") {
            path.remove_prefix(3);
            out->DropSegment(begin);
        } else if (path == "/..") {
            path = "/";
            out->DropSegment(begin);
        } else if (path == "." || path == "..") {
            path = {};
        } else {
            const std::size_t next = path.find('/', 1);
            const std::string_view segment = path.substr(0, next);
            out->Put(segment);
            path.remove_prefix(segment.size());
        }
    }
}

void PutQuery(Writer *out, bool has_query, std::string_view query) {
    if (!has_query) return;
    out->Put("?");
    out->Put(query);
}

}  // namespace

UriParts SplitUri(std::string_view text) {
    UriParts parts{};
    std::size_t end = text.find('#');
    if (end != std::string_view::npos) {
        parts.has_fragment = true;
        parts.fragment = text.substr(end + 1);
        text = text.substr(0, end);
    }
    end = text.find('?');
    if (end != std::string_view::npos) {
        parts.has_query = true;
        parts.query = text.substr(end + 1);
        text = text.substr(0, end);
    }
    end = text.find_first_of(":/");
    if (end != std::string_view::npos && end > 0 && text[end] == ':' && IsLetter(text[0])) {
        parts.has_scheme = true;
        parts.scheme = text.substr(0, end);
        text.remove_prefix(end + 1);
    }
    if (text.substr(0, 2) == "//") {
        parts.has_authority = true;
        end = text.find('/', 2);
        parts.authority = text.substr(2, end == std::string_view::npos ? end : end - 2);
        text.remove_prefix(2 + parts.authority.size());
    }
    parts.path = text;
    return parts;
}

std::size_t ResolveUri(std::string_view base_text, std::string_view reference_text, char *out) {
    const UriParts base = SplitUri(base_text);
    const UriParts reference = SplitUri(reference_text);
    Writer writer{out, out};
    const bool own_scheme = reference.has_scheme;
    const bool own_authority = own_scheme || reference.has_authority;

    const UriParts &scheme = own_scheme ? reference : base;
    if (scheme.has_scheme) {
        writer.Put(scheme.scheme);
        writer.Put(":");
    }
    const UriParts &authority = own_authority ? reference : base;
    if (authority.has_authority) {
        writer.Put("//");
        writer.Put(authority.authority);
    }
    if (own_authority || (!reference.path.empty() && reference.path.front() == '/')) {
        PutWithoutDots(&writer, reference.path);
    } else if (reference.path.empty()) {
        writer.Put(base.path);
        const UriParts &query = reference.has_query ? reference : base;
        PutQuery(&writer, query.has_query, query.query);
        return static_cast<std::size_t>(writer.end - writer.begin);
    } else {
        // The base's path up to its last slash, then the reference's: put together behind, where there is
        // room, and without dots moved to the place.
        char *merged = writer.end;
        if (base.has_authority && base.path.empty()) {
            writer.Put("/");
        } else {
            const std::size_t slash = base.path.rfind('/');
            if (slash != std::string_view::npos) writer.Put(base.path.substr(0, slash + 1));
        }
        writer.Put(reference.path);
        const std::string_view path(merged, static_cast<std::size_t>(writer.end - merged));
        // Written never ahead of what is read.
        writer.end = merged;
        PutWithoutDots(&writer, path);
    }
    PutQuery(&writer, reference.has_query, reference.query);
    return static_cast<std::size_t>(writer.end - writer.begin);
}

std::ptrdiff_t DecodePercent(std::string_view text, char *out) {
    char *end = out;
    for (std::size_t i = 0; i < text.size(); i++) {
        if (text[i] != '%') {
            *end++ = text[i];
            continue;
        }
        if (i + 2 >= text.size() || !IsHex(text[i + 1]) || !IsHex(text[i + 2])) return -1;
        *end++ = static_cast<char>(HexValue(text[i + 1]) * 16 + HexValue(text[i + 2]));
        i += 2;
    }
    return end - out;
}

}  // namespace herald::core
