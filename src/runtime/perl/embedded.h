// The adapter's own Perl code: compiled into the module, so that nothing is looked up in files at
// run time.
#pragma once

namespace bladepsgi::perl {

extern const char* const
    kLoadSource;  // finding and evaluating applications and loaders; DBI handles
extern const char* const kInputSource;       // psgi.input's class and its tied face
extern const char* const kErrorsSource;      // psgi.errors when it goes to the web server
extern const char* const kConnectionSource;  // psgix.io
extern const char* const kClassSource;       // versions of the BPSGI classes, and %INC
extern const char* const kTimeoutSource;     // BPSGI::Timeout

}  // namespace bladepsgi::perl
