#include "json/value.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <exception>

namespace bladepsgi::json {

namespace {

using Library = nlohmann::json;

std::string quoted(const std::string& text) {
  return Library(text).dump(-1, ' ', true, Library::error_handler_t::replace);
}

constexpr std::size_t kIndent = 2;

void new_line(std::string& out, std::optional<std::size_t> indent) {
  if (!indent) return;
  out += '\n';
  out.append(*indent, ' ');
}

std::optional<std::size_t> deeper(std::optional<std::size_t> indent) {
  return indent ? std::optional(*indent + kIndent) : std::nullopt;
}

}  // namespace

Object::Object() = default;
Object::Object(const Object& other) = default;
Object::Object(Object&& other) noexcept = default;
Object& Object::operator=(const Object& other) = default;
Object& Object::operator=(Object&& other) noexcept = default;
Object::~Object() = default;

Value::Value() = default;
Value::Value(const Value& other) = default;
Value::Value(Value&& other) noexcept = default;
Value& Value::operator=(const Value& other) = default;
Value& Value::operator=(Value&& other) noexcept = default;
Value::~Value() = default;

Value::Value(Truth truth) : state_(truth.value) {}

Value::Value(Integer integer) : state_(integer.value) {}

Value::Value(double value) : state_(value) {}

Value::Value(std::string value) : state_(std::move(value)) {}

Value::Value(std::string_view value) : state_(std::string(value)) {}

Value::Value(const char* value) : state_(std::string(value)) {}

Value::Value(Array value) : state_(std::move(value)) {}

Value::Value(Object value) : state_(std::move(value)) {}

Object& Object::add(std::string_view name, Value value) {
  members_.push_back({std::string(name), std::move(value)});
  return *this;
}

const Value* Object::find(std::string_view name) const {
  const auto found = std::find_if(members_.begin(), members_.end(),
                                  [name](const Member& one) { return one.name == name; });
  return found != members_.end() ? &found->value : nullptr;
}

std::optional<Value> Object::take(std::string_view name) {
  const auto found = std::find_if(members_.begin(), members_.end(),
                                  [name](const Member& one) { return one.name == name; });
  if (found == members_.end()) return std::nullopt;
  Value value = std::move(found->value);
  members_.erase(found);
  return value;
}

std::optional<bool> Value::as_bool() const {
  const auto* value = std::get_if<bool>(&state_);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<std::int64_t> Value::as_integer() const {
  const auto* value = std::get_if<std::int64_t>(&state_);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<double> Value::as_number() const {
  if (const auto integer = as_integer()) return static_cast<double>(*integer);
  const auto* value = std::get_if<double>(&state_);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

const std::string* Value::as_string() const {
  return std::get_if<std::string>(&state_);
}

const Array* Value::as_array() const {
  return std::get_if<Array>(&state_);
}

const Object* Value::as_object() const {
  return std::get_if<Object>(&state_);
}

bool Value::is_null() const {
  return std::holds_alternative<std::monostate>(state_);
}

const Value* Value::find(std::string_view name) const {
  const Object* object = as_object();
  return object != nullptr ? object->find(name) : nullptr;
}

std::string Value::text() const {
  std::string out;
  write(out, std::nullopt);
  return out;
}

std::string Value::pretty() const {
  std::string out;
  write(out, 0);
  return out + '\n';
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as whoever made the value has made it; see Limits for what was parsed
void Value::write(std::string& out, std::optional<std::size_t> indent) const {
  if (is_null()) out += "null";
  if (const auto value = as_bool()) out += *value ? "true" : "false";
  if (const auto value = as_integer()) out += std::to_string(*value);
  if (const auto* value = std::get_if<double>(&state_)) out += Library(*value).dump();
  if (const auto* value = as_string()) out += quoted(*value);
  if (const Array* array = as_array()) {
    out += '[';
    bool is_first = true;
    for (const Value& value : *array) {
      if (!is_first) out += ',';
      is_first = false;
      new_line(out, deeper(indent));
      value.write(out, deeper(indent));
    }
    if (!is_first) new_line(out, indent);
    out += ']';
  }
  if (const Object* object = as_object()) {
    out += '{';
    bool is_first = true;
    for (const Member& member : object->members()) {
      if (!is_first) out += ',';
      is_first = false;
      new_line(out, deeper(indent));
      out += quoted(member.name);
      out += indent ? ": " : ":";
      member.value.write(out, deeper(indent));
    }
    if (!is_first) new_line(out, indent);
    out += '}';
  }
}

// What the library's parser tells of; it calls itself for nothing, so that the depth is ours to limit. False ends it.
class Reader {
 public:
  explicit Reader(const Limits& limits) : limits_(limits) {}

  bool null() { return put({}); }

  bool boolean(bool value) { return put(value); }

  bool number_integer(std::int64_t value) { return put(value); }

  bool number_unsigned(std::uint64_t value) {
    if (value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
      return put(value);
    return put(static_cast<double>(value));
  }

  bool number_float(double value, const std::string& /*text*/) { return put(value); }

  bool string(std::string& value) { return put(std::move(value)); }

  bool binary(Library::binary_t& /*value*/) { return refuse("not JSON"); }

  bool start_object(std::size_t /*count*/) { return open(Object{}); }

  bool key(std::string& name) {
    const Object& object = *std::get_if<Object>(&open_.back().value.state_);
    if (object.find(name) != nullptr) return refuse("a member is there twice");
    if (object.members().size() >= limits_.members) return refuse("an object has too many members");
    open_.back().key = std::move(name);
    return true;
  }

  bool end_object() { return close(); }

  bool start_array(std::size_t /*count*/) { return open(Array{}); }

  bool end_array() { return close(); }

  bool parse_error(std::size_t position,
                   const std::string& /*token*/,
                   const std::exception& /*error*/) {
    return refuse("not JSON at byte " + std::to_string(position));
  }

  std::optional<Value> whole;
  std::string error;

 private:
  struct Open {
    Value value;
    std::string key;  // of an object: of the member that comes next
  };

  bool refuse(std::string reason) {
    error = std::move(reason);
    return false;
  }

  bool put(Value made) {
    if (open_.empty()) {
      whole = std::move(made);
      return true;
    }
    Open& around = open_.back();
    if (auto* array = std::get_if<Array>(&around.value.state_)) {
      array->push_back(std::move(made));
    } else {
      std::get_if<Object>(&around.value.state_)->add(around.key, std::move(made));
    }
    return true;
  }

  bool open(Value empty) {
    if (open_.size() >= limits_.depth) return refuse("too many arrays and objects in each other");
    open_.push_back({std::move(empty), {}});
    return true;
  }

  bool close() {
    Value made = std::move(open_.back().value);
    open_.pop_back();
    return put(std::move(made));
  }

  Limits limits_;
  std::vector<Open> open_;
};

Result<Value> parse(std::string_view text, const Limits& limits) {
  // The library takes it for the end of the text.
  if (const std::size_t end = text.find('\0'); end != std::string_view::npos)
    return fail(Remedy::Refuse, "not JSON at byte " + std::to_string(end + 1));
  Reader reader(limits);
  const bool is_whole = Library::sax_parse(text.begin(), text.end(), &reader);
  if (!is_whole || !reader.whole)
    return fail(Remedy::Refuse, reader.error.empty() ? std::string("not JSON") : reader.error);
  return std::move(*reader.whole);
}

}  // namespace bladepsgi::json
