// Value: JSON in memory, from text and to text.
//
// Members of an object keep the order in which they were added. parse() takes text of a stranger: it never throws, and what
// it takes is bounded by Limits. text() always makes ASCII: what is not, control characters among it, stands as \uXXXX, and bytes
// that are not UTF-8 become U+FFFD; so the text may be shown on a terminal as it is.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace bladepsgi::json {

class Value;
struct Member;

using Array = std::vector<Value>;

class Object {
 public:
  // Not here: Member is incomplete yet.
  Object();
  Object(const Object& other);
  Object(Object&& other) noexcept;
  Object& operator=(const Object& other);
  Object& operator=(Object&& other) noexcept;
  ~Object();

  // Appends; a name is added once.
  Object& add(std::string_view name, Value value);
  // Null: there is no such member.
  [[nodiscard]] const Value* find(std::string_view name) const;

  [[nodiscard]] const std::vector<Member>& members() const { return members_; }

  // Empty when there was none.
  std::optional<Value> take(std::string_view name);

 private:
  std::vector<Member> members_;
};

class Value {
 public:
  Value();  // null
  Value(const Value& other);
  Value(Value&& other) noexcept;
  Value& operator=(const Value& other);
  Value& operator=(Value&& other) noexcept;
  ~Value();

  // NOLINTBEGIN(google-explicit-constructor): so that objects are written as lists of what is in them.
  Value(std::same_as<bool> auto value) : Value(Truth{value}) {}

  // What is too large for the type is the largest number that there is.
  Value(std::integral auto value) requires(!std::same_as<decltype(value), bool>)
      : Value(Integer{std::in_range<std::int64_t>(value)
                          ? static_cast<std::int64_t>(value)
                          : std::numeric_limits<std::int64_t>::max()}) {}

  Value(double value);
  Value(std::string value);
  Value(std::string_view value);
  Value(const char* value);
  Value(Array value);
  Value(Object value);

  // NOLINTEND(google-explicit-constructor)

  // Each is empty or null when the value is of another type.
  [[nodiscard]] std::optional<bool> as_bool() const;
  [[nodiscard]] std::optional<std::int64_t> as_integer() const;
  [[nodiscard]] std::optional<double> as_number() const;  // an integer, too
  [[nodiscard]] const std::string* as_string() const;
  [[nodiscard]] const Array* as_array() const;
  [[nodiscard]] const Object* as_object() const;
  [[nodiscard]] bool is_null() const;

  // Of an object; null when it is none or has no such member.
  [[nodiscard]] const Value* find(std::string_view name) const;

  [[nodiscard]] std::string text() const;    // in one line
  [[nodiscard]] std::string pretty() const;  // indented, newline at the end

 private:
  friend class Reader;

  struct Truth {
    bool value;
  };

  struct Integer {
    std::int64_t value;
  };

  explicit Value(Truth truth);
  explicit Value(Integer integer);

  void write(std::string& out, std::optional<std::size_t> indent) const;

  std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object> state_;
};

struct Member {
  std::string name;
  Value value;
};

struct Limits {
  std::size_t depth = 32;     // of arrays and objects in each other
  std::size_t members = 256;  // of an object
};

// The whole text is one value. The error says what is wrong and where, in a few words, with nothing of the text in it.
Result<Value> parse(std::string_view text, const Limits& limits = {});

}  // namespace bladepsgi::json
