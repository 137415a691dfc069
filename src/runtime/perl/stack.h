// Stack: what Perl is doing at this moment, told from within a signal handler.
//
// The handler may have come anywhere: in the middle of an op, of a system call, of malloc, while Perl moves its own stacks. So this
// only reads, allocates nothing and calls nothing of Perl. Whatever a pointer leads to is fetched by the kernel
// (process_vm_readv on this process), which says no where a plain read would be a fault.
#pragma once

#include <cstddef>
#include <span>

#include "runtime/perl/perl_types.h"

namespace bladepsgi::perl {

// Where a kernel does not allow the reading, or the stacks cannot be made sense of.
inline constexpr const char* kNoStack = "Perl stack unavailable";

// A line for each sub, the innermost first: "My::Model::find at lib/My/Model.pm line 12"; of the first also the op that runs. Never
// empty, no newline at the end; cut to what `into` holds. Async-signal-safe. Returns its size.
std::size_t write_stack(PerlInterpreter* my_perl, std::span<char> into) noexcept;

// False: not all of it can be read.
[[nodiscard]] bool read_own_memory(const void* from, void* into, std::size_t size) noexcept;

}  // namespace bladepsgi::perl
