#include "fcgi/record.h"

namespace bladepsgi::fcgi {

std::string_view describe(ProtocolError error) {
  switch (error) {
    case ProtocolError::None:
      return "no error";
    case ProtocolError::UnsupportedVersion:
      return "record of an unsupported protocol version";
    case ProtocolError::ApplicationRecordWithoutId:
      return "application record with request id 0";
    case ProtocolError::BadBeginRequest:
      return "BEGIN_REQUEST record of wrong length";
    case ProtocolError::RequestIdInUse:
      return "BEGIN_REQUEST for a request id that is in use";
    case ProtocolError::UnexpectedRecord:
      return "record of a type that does not belong to the request";
    case ProtocolError::ParametersAfterEnd:
      return "PARAMS record after the end of the parameters";
    case ProtocolError::StdinBeforeParametersEnd:
      return "STDIN record before the end of the parameters";
    case ProtocolError::StdinAfterEnd:
      return "STDIN record after the end of the body";
    case ProtocolError::MalformedParameters:
      return "malformed parameters";
    case ProtocolError::MalformedGetValues:
      return "malformed GET_VALUES record";
    case ProtocolError::ParametersFarTooLarge:
      return "parameters far over the limit";
    case ProtocolError::TooMuchIgnoredInput:
      return "too much input that belongs to no request";
    case ProtocolError::TooManyRepliesUnread:
      return "too many management records while the replies are not read";
  }
  return "unknown error";
}

Header Header::parse(std::span<const std::byte, kHeaderSize> bytes) {
  return Header{.version = load_u8(bytes.data()),
                .type = load_u8(bytes.data() + 1),
                .request_id = load_u16(bytes.data() + 2),
                .content_length = load_u16(bytes.data() + 4),
                .padding_length = load_u8(bytes.data() + 6)};
}

Result<Decoded, ProtocolError> decode_record(Bytes input) {
  if (input.size() < kHeaderSize) return Decoded{};
  const Header header = Header::parse(input.first<kHeaderSize>());
  if (header.version != kVersion1) return fail(ProtocolError::UnsupportedVersion);
  const std::size_t total =
      kHeaderSize + std::size_t{header.content_length} + std::size_t{header.padding_length};
  if (input.size() < total) return Decoded{};
  return Decoded{total, Record{header, input.subspan(kHeaderSize, header.content_length)}};
}

void encode_header(std::span<std::byte, kHeaderSize> into,
                   RecordType type,
                   std::uint16_t request_id,
                   std::size_t content_length,
                   std::size_t padding_length) {
  into[0] = std::byte{kVersion1};
  into[1] = static_cast<std::byte>(type);
  store_u16(&into[2], request_id);
  store_u16(&into[4], static_cast<std::uint16_t>(content_length));
  into[6] = static_cast<std::byte>(padding_length);
  into[7] = std::byte{0};
}

std::array<std::byte, kEndRequestSize> encode_end_request(std::uint16_t request_id,
                                                          std::uint32_t application_status,
                                                          ProtocolStatus status) {
  std::array<std::byte, kEndRequestSize> record{};
  encode_header(std::span(record).first<kHeaderSize>(), RecordType::EndRequest, request_id, 8);
  store_u32(&record[kHeaderSize], application_status);
  record[kHeaderSize + 4] = static_cast<std::byte>(status);
  return record;
}

}  // namespace bladepsgi::fcgi
