// Heap: what a process does with its own before it forks others that shall share it.
#pragma once

namespace bladepsgi::os {

// Pages that nothing lies on go back to the kernel. The small free blocks between others are taken out of use for good: who is
// forked would copy a page for each of them that it uses, and gets memory of its own, close together, instead. To be called once, by
// a process that itself does hardly anything any more.
void settle_heap();

// Code and constants that this process has used and hardly will again, as those of loading an application, are not counted as its memory any
// more; who needs a page of them finds it in the kernel's cache. What has been written into (relocations) stays.
void release_code();

}  // namespace bladepsgi::os
