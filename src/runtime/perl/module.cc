// The one symbol that perl.so exports.
#include "runtime/app.h"
#include "runtime/perl/application.h"

namespace bladepsgi::perl {

namespace {

Result<runtime::App*> load(runtime::Host& host, const runtime::LoadOptions& options) {
  auto started = Application::start();
  if (!started) {
    return fail(started.error());
  }
  if (auto loaded = (*started)->load(host, options); !loaded) {
    return fail(loaded.error());
  }
  return *started;
}

constexpr runtime::Module kModule{
    .abi = runtime::kModuleAbi,
    .language = "Perl",
    .built_for = BLADEPSGI_PERL_VERSION,
    .load = load,
};

}  // namespace

}  // namespace bladepsgi::perl

extern "C" __attribute__((visibility("default"))) const bladepsgi::runtime::Module*
bladepsgi_runtime_module() {
  return &bladepsgi::perl::kModule;
}
