// The formats of dates and times, see formats.hpp.

#include "core/ascii.hpp"
#include "core/formats.hpp"

namespace herald::core {

namespace {

// The number in `count` digits at the beginning of `text`, which are taken off; -1: there are none.
int TakeNumber(std::string_view *text, std::size_t count) {
    int number = 0;
    if (text->size() < count) return -1;
    for (std::size_t i = 0; i < count; i++) {
        if (!IsDigit((*text)[i])) return -1;
        number = number * 10 + ((*text)[i] - '0');
    }
    text->remove_prefix(count);
    return number;
}

bool Take(std::string_view *text, char c) {
    if (text->empty() || text->front() != c) return false;
    text->remove_prefix(1);
    return true;
}

int DaysOf(int year, int month) {
    constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return kDays[month - 1] + (leap && month == 2 ? 1 : 0);
}

// One or more digits and the unit, of the units left in `units`; those before it are used up.
bool TakeUnit(std::string_view *text, std::string_view *units) {
    std::size_t digits = 0;
    while (digits < text->size() && IsDigit((*text)[digits])) digits++;
    if (digits == 0 || digits == text->size()) return false;
    const std::size_t unit = units->find((*text)[digits]);
    if (unit == std::string_view::npos) return false;
    text->remove_prefix(digits + 1);
    units->remove_prefix(unit + 1);
    return true;
}

// As many units as there are, without a gap where `adjacent` says so (years and days, but no months).
bool TakeUnits(std::string_view *text, std::string_view units) {
    bool first = true;
    while (!text->empty() && text->front() != 'T') {
        const std::size_t before = units.size();
        if (!TakeUnit(text, &units)) return false;
        if (!first && before - units.size() != 1) return false;
        first = false;
    }
    return !first;
}

}  // namespace

bool IsDate(std::string_view text) {
    const int year = TakeNumber(&text, 4);
    if (year < 0 || !Take(&text, '-')) return false;
    const int month = TakeNumber(&text, 2);
    if (month < 1 || month > 12 || !Take(&text, '-')) return false;
    const int day = TakeNumber(&text, 2);
    return text.empty() && day >= 1 && day <= DaysOf(year, month);
}

bool IsTime(std::string_view text) {
    const int hour = TakeNumber(&text, 2);
    if (hour < 0 || hour > 23 || !Take(&text, ':')) return false;
    const int minute = TakeNumber(&text, 2);
    if (minute < 0 || minute > 59 || !Take(&text, ':')) return false;
    const int second = TakeNumber(&text, 2);
    if (second < 0 || second > 60) return false;
    if (Take(&text, '.')) {
        if (text.empty() || !IsDigit(text.front())) return false;
        while (!text.empty() && IsDigit(text.front())) text.remove_prefix(1);
    }
    int offset = 0;
    if (!Take(&text, 'Z') && !Take(&text, 'z')) {
        const bool behind = Take(&text, '-');
        if (!behind && !Take(&text, '+')) return false;
        const int hours = TakeNumber(&text, 2);
        if (hours < 0 || hours > 23 || !Take(&text, ':')) return false;
        const int minutes = TakeNumber(&text, 2);
        if (minutes < 0 || minutes > 59) return false;
        offset = (behind ? -1 : 1) * (hours * 60 + minutes);
    }
    if (!text.empty()) return false;
    // A leap second is the last one of a day in UTC.
    return second < 60 || (hour * 60 + minute - offset + 2 * 1440) % 1440 == 1439;
}

bool IsDateTime(std::string_view text) {
    return text.size() > 11 && (text[10] == 'T' || text[10] == 't') && IsDate(text.substr(0, 10)) &&
           IsTime(text.substr(11));
}

bool IsDuration(std::string_view text) {
    if (!Take(&text, 'P') || text.empty()) return false;
    if (text.back() == 'W') {
        std::string_view units = "W";
        return TakeUnit(&text, &units) && text.empty();
    }
    if (text.front() != 'T' && !TakeUnits(&text, "YMD")) return false;
    if (text.empty()) return true;
    return Take(&text, 'T') && TakeUnits(&text, "HMS") && text.empty();
}

}  // namespace herald::core
