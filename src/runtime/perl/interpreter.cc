#include "runtime/perl/interpreter.h"

#include <unistd.h>

#include "runtime/perl/perl_api.h"

namespace bladepsgi::perl {

namespace {

std::string show(const Version& version) {
  return std::to_string(version.revision) + '.' + std::to_string(version.version) + '.' +
         std::to_string(version.subversion);
}

void boot_modules(pTHX) {
  newXS("DynaLoader::boot_DynaLoader", boot_DynaLoader, __FILE__);
}

}  // namespace

Version built_version() {
  return {.revision = PERL_REVISION,
          .version = PERL_VERSION,
          .subversion = PERL_SUBVERSION,
          .interpreter_size = sizeof(PerlInterpreter)};
}

Version found_version() {
  return {.revision = PL_revision,
          .version = PL_version,
          .subversion = PL_subversion,
          .interpreter_size = PL_interp_size};
}

Result<void> check_version(const Version& built, const Version& found) {
  const std::string both = "cannot start Perl: this runtime was built for Perl " + show(built) +
                           ", the libperl found is " + show(found);
  if (built.revision != found.revision || built.version != found.version ||
      built.subversion != found.subversion) {
    return fail(Remedy::GiveUp, both + "; build the runtime for that Perl");
  }
  if (built.interpreter_size != found.interpreter_size) {
    return fail(Remedy::GiveUp, both + " but was configured differently (threads or debugging)");
  }
  return {};
}

Result<PerlInterpreter*> start_interpreter() {
  // Perl keeps and may write to these.
  static char name[] = "bladepsgi";
  static char option[] = "-e";
  static char program[] = "#line 1 \"bladepsgi\"\n0";
  static char* arguments[] = {name, option, program, nullptr};
  static int count = 3;
  static char** vector = arguments;
  char** environment = environ;

  PERL_SYS_INIT3(&count, &vector, &environment);
  PerlInterpreter* my_perl = perl_alloc();
  if (my_perl == nullptr) {
    return fail(Remedy::Retry, "cannot start Perl: out of memory");
  }
  // As perl's own main does: otherwise every assignment to %ENV leaks its string, and CGI
  // applications assign dozens a request.
  PL_use_safe_putenv = FALSE;
  perl_construct(my_perl);
  PL_origalen = 1;
  PL_exit_flags |= PERL_EXIT_DESTRUCT_END;
  if (const int status = perl_parse(my_perl, boot_modules, count, vector, nullptr); status != 0) {
    return fail(Remedy::GiveUp, "cannot start Perl: its start-up failed with status " +
                                    std::to_string(status) + " (is PERL5OPT or PERL5LIB wrong?)");
  }
  perl_run(my_perl);
  return my_perl;
}

}  // namespace bladepsgi::perl
