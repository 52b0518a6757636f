//! What state a container's firewall is in, and how it refuses.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The mode of a container's firewall. Denials and the floor hold in every one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Enforcing: what is listed passes, nothing else.
    #[default]
    Up,
    /// Public destinations pass, private ones only where listed.
    Down,
    /// Private destinations pass too.
    DownAll,
    /// Nothing passes but loopback.
    Block,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Up, Self::Down, Self::DownAll, Self::Block];

    /// Whether less passes in it than in another.
    #[must_use]
    pub fn is_more_closed_than(self, other: Self) -> bool {
        let openness = |mode| match mode {
            Self::Block => 0,
            Self::Up => 1,
            Self::Down => 2,
            Self::DownAll => 3,
        };
        openness(self) < openness(other)
    }

    /// The word that stands for it in files, in the table and in output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::DownAll => "down_all",
            Self::Block => "block",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|mode| mode.word() == text).ok_or(())
    }
}

/// How a refused TCP connection ends. Everything else is refused by ICMP admin-prohibited either way.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Refuse {
    /// By a reset, at once. (The kernel counts an ICMP error as soft while the socket is locked, so a blocking
    /// `connect` would wait one second.)
    #[default]
    Reset,
    /// By ICMP admin-prohibited.
    Icmp,
}

impl Refuse {
    /// Both ways.
    pub const ALL: [Self; 2] = [Self::Reset, Self::Icmp];

    /// The word that stands for it in files and in the table.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Icmp => "icmp",
        }
    }
}

impl fmt::Display for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Refuse {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|way| way.word() == text).ok_or(())
    }
}
