#include "control/place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bladepsgi::control {
namespace {

using ::testing::ElementsAre;

std::string server_place(const Surroundings& surroundings) {
  const auto place = place_of_server(surroundings);
  return place ? place->directory + (place->is_ours ? " ours" : "") : "none";
}

TEST(ControlPlace, IsTheFirstOfSystemdsFolders) {
  EXPECT_EQ(server_place({.runtime_directory = "/run/app:/run/other",
                          .user_runtime_directory = "/run/user/0",
                          .is_root = true}),
            "/run/app");
}

TEST(ControlPlace, IsOursInTheUsersFolderOrThatOfTheSystem) {
  EXPECT_EQ(server_place({.user_runtime_directory = "/run/user/7", .is_root = true}),
            "/run/user/7/bladepsgi ours");
  EXPECT_EQ(server_place({.is_root = true}), "/run/bladepsgi ours");
  EXPECT_EQ(server_place({}), "none");
  EXPECT_EQ(server_place({.runtime_directory = "run", .user_runtime_directory = "."}), "none");
}

TEST(ControlPlace, IsLookedForWhereAnyServerMayHavePutIt) {
  EXPECT_THAT(places_of_client({.runtime_directory = "/run/app:/run/bladepsgi:x",
                                .user_runtime_directory = "/run/user/7"}),
              ElementsAre("/run/app", "/run/bladepsgi", "/run/user/7/bladepsgi"));
  EXPECT_THAT(places_of_client({}), ElementsAre("/run/bladepsgi"));
}

TEST(ControlPlace, NamesTheSocketAfterItsProcess) {
  EXPECT_EQ(socket_name(812), "812.control");
  EXPECT_EQ(pid_of("812.control"), 812);
  for (const std::string_view name : {".control", "a.control", "812", "812.control.", "-1.control",
                                      "0.control", "4294967296.control", ""})
    EXPECT_FALSE(pid_of(name)) << name;
}

}  // namespace
}  // namespace bladepsgi::control
