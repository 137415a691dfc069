// FcgiExchange: requests over FastCGI connections. What is common to all protocols is in protocol_exchange.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.h"
#include "fcgi/connection.h"
#include "fcgi/record.h"
#include "runtime/exchange.h"
#include "worker/protocol_exchange.h"

namespace bladepsgi::worker {

struct FcgiOptions {
  ExchangeOptions exchange;
  fcgi::Limits limits;
  fcgi::Values values;
};

class FcgiExchange final : public ProtocolExchange {
 public:
  explicit FcgiExchange(const FcgiOptions& options);

  // Bytes are here that have not been looked at: call take_request without waiting for the descriptor to become readable.
  [[nodiscard]] bool has_buffered_input() const { return connection_.has_buffered_input(); }

  [[nodiscard]] std::uint64_t parameter_shape() const noexcept override { return 2 * own_shape(); }

  void write_error(Bytes bytes) noexcept override;

 private:
  struct Batch;

  [[nodiscard]] handoff::Protocol protocol() const override { return handoff::Protocol::FastCgi; }

  [[nodiscard]] std::span<const Parameter> sent_parameters() override;

  void on_new_request() override { stderr_used_ = false; }

  void on_body_length(std::optional<std::uint64_t> length) override;
  std::optional<std::uint64_t> write_head(int status,
                                          std::span<const runtime::Header> headers) override;
  bool send_queue(bool is_last, bool has_more) override;

  void describe_pieces(handoff::Message& message) const override {
    message.stream_id = connection_.request().id;
  }

  std::size_t write_timed_out(std::span<std::byte> into, bool has_begun) const noexcept override;

  [[nodiscard]] std::size_t largest_piece() const override { return fcgi::kMaxContentSent; }

  [[nodiscard]] Bytes piece_begin(std::size_t size) override;
  bool send_broken_end() override;

  fcgi::Connection connection_;
  std::array<std::byte, fcgi::kHeaderSize> record_header_{};
  bool stderr_used_ = false;
  std::string timed_out_head_;
};

}  // namespace bladepsgi::worker
