//! What a container may reach, as values: names, targets, profiles, and the
//! address ranges that need more than a wide entry to be opened.
//!
//! This room is pure. It reads no file, asks no clock and makes no system call;
//! whoever needs text from a file hands it in through [`Source`].

/// Serializes a type as the string its `Display` prints, reads it back through
/// its `FromStr`, and describes it as a string in JSON Schema.
macro_rules! text_value {
    ($type:ty, $name:literal, $description:literal, $examples:expr) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(
                    deserializer,
                )?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": $description,
                    "examples": $examples,
                })
            }
        }
    };
}

mod mode;
mod moment;
mod name;
#[allow(clippy::module_inception)]
mod policy;
mod profile;
mod ranges;
mod special;
mod target;

pub use mode::{Mode, Refuse};
pub use moment::Moment;
pub use name::{ContainerName, ContainerNameError, DnsName, MAX_CONTAINER_NAME, NameError, NamePattern, Scope};
pub use policy::{Action, Addresses, Grant, Policy, PublishedPort, resolvable};
pub use profile::{
    Entry, Line, MAX_LINE_BYTES, MAX_PROFILE_BYTES, Origin, ProfileError, ProfileName, ProfileNameError, ProfileText,
    Source, Statement, description, load, parse,
};
pub use ranges::{Bits, Item, Ranges};
pub use special::{
    Class, Special, classify, covers_address, embedded_v4, embedded_v6_forms, explicit, explicit_class, floor_v4,
    floor_v6, private_v4, private_v6, special_ranges, special_source,
};
pub use target::{Destination, PortRange, Ports, Protocol, Target, TargetError};
