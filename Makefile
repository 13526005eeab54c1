# Building, installing and testing pg_herald.
#
# The extension itself is a plain PGXS module: make, make install, make installcheck.
# The goals of the first part (make demo, make check, ...) need no PostgreSQL to start with,
# since they install what is missing, and so they come without PGXS.
#
# Variables: PG_CONFIG picks the server, WERROR=1 makes warnings fatal, SUITES="regress tap"
# restricts make check. A build outside the sources works too: make -f /path/to/Makefile.

top := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))
PG_CONFIG ?= pg_config

own_goals := demo check explore check-majors check-assert check-headers setup unit bench bench-programs

ifneq (,$(filter $(own_goals),$(MAKECMDGOALS)))

export PG_CONFIG
.PHONY: $(MAKECMDGOALS)

demo:
	@$(top)/scripts/demo

check:
	@$(top)/scripts/check $(SUITES)

# The tests that make up what they do, each time something else: make explore ROUNDS=100
ROUNDS ?= 10
explore:
	@for round in $$(seq $(ROUNDS)); do HERALD_TEST_SEED=random \
		HERALD_TESTS="altered_tables audit_model change_feeds consumers_end json_schema_random recovery_model" \
		$(top)/scripts/check tap || exit 1; done

check-majors:
	@$(top)/scripts/check-majors $(MAJORS)

check-assert:
	@$(top)/scripts/check-assert

check-headers:
	@$(top)/scripts/check-headers

setup:
	@$(top)/scripts/setup check

# The unit tests of src/core need neither server nor headers of PostgreSQL.
unit_dir := build/unit
unit_sources := $(sort $(wildcard $(top)/src/core/*.cpp $(top)/test/unit/*.cpp))
unit_objects := $(patsubst $(top)/%.cpp,$(unit_dir)/%.o,$(unit_sources))
unit_flags := -std=c++20 -O1 -g -Wall -Wextra $(if $(WERROR),-Werror) \
	-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -I$(top)/src

unit: $(unit_dir)/unit_tests

$(unit_dir)/unit_tests: $(unit_objects)
	$(CXX) $(unit_flags) -o $@ $^ -lgtest_main -lgtest -pthread

$(unit_objects): $(unit_dir)/%.o: $(top)/%.cpp
	@mkdir -p $(@D)
	$(CXX) $(unit_flags) -MMD -MP -c -o $@ $<

-include $(unit_objects:.o=.d)

# QUICK=1 for a short trial; RECORD=1 puts tables and pictures into doc/. All is in bench/; make check
# runs none of it.
bench:
	@for script in publish latency tasks backlog decay restart rotation schema audit; do \
		$(top)/bench/$$script $(if $(QUICK),--quick) || exit 1; done
	$(if $(RECORD),@$(top)/bench/plot)
	@$(top)/bench/report $(if $(RECORD),--into $(top)/doc/performance.md)

bench_dir ?= build/bench_programs

bench-programs: $(addprefix $(bench_dir)/,listeners latency slow_flush.so bare_worker.so)

$(bench_dir)/%.so: $(top)/bench/%.cpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O2 -Wall -Wextra -Wno-register -Wno-unused-parameter -shared -fPIC \
		-isystem $(shell $(PG_CONFIG) --includedir-server) -o $@ $< -ldl

$(bench_dir)/%: $(top)/bench/%.cpp $(top)/bench/connection.hpp
	@mkdir -p $(@D)
	$(CXX) -std=c++20 -O2 -Wall -Wextra -I$(shell $(PG_CONFIG) --includedir) \
		-L$(shell $(PG_CONFIG) --libdir) -o $@ $< -lpq -pthread

# make install demo: the goals of the other part are made by a make of their own.
$(filter-out $(own_goals),$(MAKECMDGOALS)):
	@$(MAKE) --no-print-directory -f $(firstword $(MAKEFILE_LIST)) $@

else

EXTENSION = pg_herald
MODULE_big = pg_herald
DATA = $(patsubst $(top)/%,%,$(sort $(wildcard $(top)/pg_herald--*.sql)))
PGFILEDESC = "pg_herald - publish/subscribe and task dispatch inside PostgreSQL"

sources := $(sort $(wildcard $(top)/src/*.cpp $(top)/src/*/*.cpp))
OBJS = $(patsubst $(top)/%.cpp,%.o,$(sources))

REGRESS = $(basename $(notdir $(sort $(wildcard $(top)/sql/*.sql))))
REGRESS_OPTS = --load-extension=pg_herald
ISOLATION = $(basename $(notdir $(sort $(wildcard $(top)/test/isolation/specs/*.spec))))
ISOLATION_OPTS = --inputdir=$(top)/test/isolation --load-extension=pg_herald

# The control file is the only place that holds the version.
version := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(top)/pg_herald.control)

# -isystem silences the server's headers, which PGXS names with -I as well.
PG_CPPFLAGS = -I$(top)/src -isystem $(shell $(PG_CONFIG) --includedir-server) \
	-DPG_HERALD_VERSION='"$(version)"'
PG_CXXFLAGS = -std=c++20 -Wno-register -Wextra -Wno-unused-parameter \
	-Wno-missing-field-initializers -fvisibility-inlines-hidden $(if $(WERROR),-Werror)

PGXS := $(shell $(PG_CONFIG) --pgxs)
ifeq (,$(PGXS))
$(error $(PG_CONFIG) does not run: install postgresql-server-dev-15, or make setup, or set PG_CONFIG)
endif

# Bitcode for the JIT is made with the server's clang, which a mere builder may not have.
ifeq (,$(wildcard $(shell sed -n 's/^CLANG *= *//p' $(dir $(PGXS))../Makefile.global)))
override with_llvm = no
endif

# Link as C++. Sources are found by explicit rules: a VPATH would take objects from a build
# in the source directory for ours.
override COMPILER = $(CXX) $(CXXFLAGS)
override VPATH =
vpath %.control $(top)

EXTRA_CLEAN = build $(OBJS:.o=.d)

include $(PGXS)

# Warnings are the business of the other compiler: clang's about server macros are noise.
COMPILE.cxx.bc += $(PG_CXXFLAGS) -w

# Objects are made again when a header, the flags or the server they are for change, and the
# library also when a source file has gone.
flags_text = $(VERSION) $(CXX) $(CXXFLAGS) $(CPPFLAGS)
objects_text = $(OBJS)
quote = '$(subst ','\'',$(1))'

$(OBJS): %.o: $(top)/%.cpp build/flags
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) $(CPPFLAGS) -MMD -MP -MT $@ -MT $(@:.o=.bc) -c -o $@ $<

$(OBJS:.o=.bc): %.bc: $(top)/%.cpp build/flags
	@mkdir -p $(@D)
	$(COMPILE.cxx.bc) -o $@ $<

$(shlib): build/objects

build/flags build/objects: build/%: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(call quote,$($*_text)) | cmp -s - $@ || \
		printf '%s\n' $(call quote,$($*_text)) > $@

.PHONY: FORCE
FORCE:

-include $(OBJS:.o=.d)

endif
