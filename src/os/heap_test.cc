#include "os/heap.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace bladepsgi::os {
namespace {

constexpr std::size_t kBlock = 104;
constexpr int kHoles = 1000;
constexpr int kBetween = 40;  // blocks: more than a page

// On how many pages lie a thousand blocks of a process whose heap has as many holes, each on a page of its own?
int pages_of_new_blocks(bool settles) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    std::vector<void*> blocks(std::size_t{kHoles} * kBetween);
    for (void*& block : blocks)
      block = std::malloc(kBlock);
    for (std::size_t at = 0; at < blocks.size(); at += kBetween)
      std::free(blocks[at]);
    if (settles) settle_heap();
    std::set<std::uintptr_t> pages;
    std::vector<void*> fresh(kHoles);
    for (void*& block : fresh)
      block = std::malloc(kBlock);
    for (const void* block : fresh)
      pages.insert(reinterpret_cast<std::uintptr_t>(block) / 4096);
    ::_exit(static_cast<int>(pages.size() / 10));  // a status has eight bits
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  return WEXITSTATUS(status) * 10;
}

TEST(SettleHeap, NewBlocksLieCloseTogether) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "a sanitizer's malloc is another";
#endif
  EXPECT_GE(pages_of_new_blocks(false), kHoles / 2);
  EXPECT_LE(pages_of_new_blocks(true), kHoles / 10);
}

TEST(SettleHeap, GivesFreePagesBack) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "a sanitizer's malloc is another";
#endif
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto resident = [] {
      long size = 0;
      long pages = 0;
      FILE* const statm = std::fopen("/proc/self/statm", "re");
      if (statm == nullptr || std::fscanf(statm, "%ld %ld", &size, &pages) != 2) ::_exit(1);
      std::fclose(statm);
      return pages;
    };
    std::vector<void*> blocks(20'000);
    for (void*& block : blocks)
      block = std::calloc(1, 1000);
    void* const last = std::calloc(1, 1000);  // what is freed is not the end of the heap
    const long before = resident();
    for (void* block : blocks)
      std::free(block);
    settle_heap();
    const long after = resident();
    std::free(last);
    ::_exit(before - after > 4000 ? 0 : 2);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

long resident_code() {
  std::ifstream maps("/proc/self/smaps");
  bool is_code = false;
  long sum = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(" r-xp ") != std::string::npos) is_code = line.find('/') != std::string::npos;
    if (line.starts_with("Rss:") && std::exchange(is_code, false)) sum += std::stol(line.substr(4));
  }
  return sum;
}

TEST(ReleaseCode, LeavesThePagesAndKeepsTheProcess) {
  const long before = resident_code();
  release_code();
  EXPECT_LT(resident_code(), before * 3 / 4) << "KiB";  // what looks at it is code as well
}

}  // namespace
}  // namespace bladepsgi::os
