// Result: the value of an operation that may fail in an expected way, or the reason why it did.
//
// Shaped like C++23's std::expected, so that one day it becomes an alias. Exceptions stay for what should not happen
// (os::SystemError); see docs/decisions/ and STYLE: malformed input, a program that will not start, a missing file are
// values.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace bladepsgi {

// What the caller can do about a failure.
enum class Remedy {
  Retry,   // the same call may succeed later (no memory, no descriptors, no processes)
  Refuse,  // the input is at fault: say so to whoever sent it and carry on
  GiveUp,  // nothing sensible follows; the operation that needed this is over
};

struct Error {
  Remedy remedy = Remedy::GiveUp;
  std::string message;  // action, object, reason and its symbol, as it appears in the log
};

// Wraps an error so that a function returning Result can `return fail(…)`.
template <class E>
struct Failure {
  E error;
};

template <class E>
[[nodiscard]] Failure<std::decay_t<E>> fail(E&& error) {
  return {std::forward<E>(error)};
}

[[nodiscard]] inline Failure<Error> fail(Remedy remedy, std::string message) {
  return {Error{remedy, std::move(message)}};
}

template <class T, class E = Error>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  using error_type = E;

  // NOLINTBEGIN(google-explicit-constructor): `return value;` and `return fail(…);` are how a Result is made.
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}

  template <class F>
  Result(Failure<F> failure) : state_(std::in_place_index<1>, std::move(failure.error)) {}

  // NOLINTEND(google-explicit-constructor)

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }

  explicit operator bool() const { return has_value(); }

  // Preconditions: has_value() for the value, !has_value() for the error.
  [[nodiscard]] T& value() & { return std::get<0>(state_); }

  [[nodiscard]] const T& value() const& { return std::get<0>(state_); }

  [[nodiscard]] T&& value() && { return std::get<0>(std::move(state_)); }

  [[nodiscard]] T& operator*() & { return value(); }

  [[nodiscard]] const T& operator*() const& { return value(); }

  [[nodiscard]] T&& operator*() && { return std::move(*this).value(); }

  T* operator->() { return &value(); }

  const T* operator->() const { return &value(); }

  [[nodiscard]] const E& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, E> state_;
};

template <class E>
class [[nodiscard]] Result<void, E> {
 public:
  using value_type = void;
  using error_type = E;

  Result() = default;

  template <class F>
  // NOLINTNEXTLINE(google-explicit-constructor): as above
  Result(Failure<F> failure) : state_(std::move(failure.error)) {}

  [[nodiscard]] bool has_value() const { return state_.index() == 0; }

  explicit operator bool() const { return has_value(); }

  [[nodiscard]] const E& error() const { return std::get<1>(state_); }

 private:
  std::variant<std::monostate, E> state_;
};

}  // namespace bladepsgi
