//! Sets of addresses as sorted inclusive intervals, for both families alike.
//!
//! nftables takes single addresses, prefixes and ranges; it reports an error
//! where intervals overlap and merges nothing by itself. So networks are united
//! and subtracted here, and leave as a list in which nothing overlaps or touches.

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

mod sealed {
    pub trait Sealed {}
    impl Sealed for u32 {}
    impl Sealed for u128 {}
}

/// An address as a number: `u32` for IPv4, `u128` for IPv6.
pub trait Bits: sealed::Sealed + Copy + Ord + Debug + 'static {
    /// The address that the number stands for.
    type Address: Copy + Ord + Debug;
    /// A network of such addresses.
    type Net: Copy + Debug;

    /// The number of an address.
    fn of(address: Self::Address) -> Self;
    /// First and last number of a network.
    fn bounds(net: Self::Net) -> (Self, Self);
    /// The address of a number.
    fn address(self) -> Self::Address;
    /// The network that covers exactly `first` to `last`, if one does.
    fn exact(first: Self, last: Self) -> Option<Self::Net>;
    /// The next number, if there is one.
    fn next(self) -> Option<Self>;
    /// The number before, if there is one.
    fn previous(self) -> Option<Self>;
}

macro_rules! bits {
    ($bits:ty, $address:ty, $net:ty) => {
        impl Bits for $bits {
            type Address = $address;
            type Net = $net;

            fn of(address: $address) -> Self {
                address.to_bits()
            }

            fn bounds(net: $net) -> (Self, Self) {
                (net.network().to_bits(), net.broadcast().to_bits())
            }

            fn address(self) -> $address {
                <$address>::from_bits(self)
            }

            fn exact(first: Self, last: Self) -> Option<$net> {
                // A prefix spans 2^n addresses, and begins at a multiple of that.
                let span = last.checked_sub(first)?;
                if span & span.wrapping_add(1) != 0 || first & span != 0 {
                    return None;
                }
                let length = u8::try_from(span.leading_zeros()).ok()?;
                <$net>::new(first.address(), length).ok()
            }

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    };
}

bits!(u32, Ipv4Addr, Ipv4Net);
bits!(u128, Ipv6Addr, Ipv6Net);

/// A set of addresses: inclusive intervals, sorted, neither overlapping nor adjacent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges<B: Bits>(Vec<(B, B)>);

/// One interval in the form in which nftables lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<B: Bits> {
    /// A single address.
    Address(B::Address),
    /// Exactly the addresses of a network of more than one address.
    Prefix(B::Net),
    /// From the first to the last address inclusive; no single network covers it.
    Range(B::Address, B::Address),
}

impl<B: Bits> Default for Ranges<B> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<B: Bits> Ranges<B> {
    /// The addresses of all these networks together.
    pub fn from_nets(nets: impl IntoIterator<Item = B::Net>) -> Self {
        Self::normal(nets.into_iter().map(B::bounds).collect())
    }

    /// All addresses from a first to a last one, for each pair; reversed pairs are empty.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (B::Address, B::Address)>) -> Self {
        let pairs = pairs
            .into_iter()
            .map(|(first, last)| (B::of(first), B::of(last)))
            .filter(|(first, last)| first <= last);
        Self::normal(pairs.collect())
    }

    fn normal(mut intervals: Vec<(B, B)>) -> Self {
        intervals.sort_unstable();
        let mut merged: Vec<(B, B)> = Vec::with_capacity(intervals.len());
        for (first, last) in intervals {
            match merged.last_mut() {
                // Without a next number the one before reaches the end of the space.
                Some(before) if before.1.next().is_none_or(|next| first <= next) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// What is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self::normal(self.0.iter().chain(&other.0).copied().collect())
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn subtract(&self, other: &Self) -> Self {
        let mut left = Vec::with_capacity(self.0.len());
        let mut holes = other.0.iter().copied().peekable();
        for &(first, last) in &self.0 {
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            let mut start = Some(first);
            // A hole may reach into the next interval, so it stays until one begins behind it.
            while let (Some(from), Some(&(hole, end))) = (start, holes.peek()) {
                if hole > last {
                    break;
                }
                if let Some(before) = hole.previous().filter(|before| from <= *before) {
                    left.push((from, before));
                }
                start = end.next().filter(|next| *next <= last);
                if end > last {
                    break;
                }
                holes.next();
            }
            if let Some(from) = start {
                left.push((from, last));
            }
        }
        Self(left)
    }

    /// Whether the set holds this address.
    #[must_use]
    pub fn contains(&self, address: B::Address) -> bool {
        let bits = B::of(address);
        let after = self.0.partition_point(|(first, _)| *first <= bits);
        after > 0 && bits <= self.0[after - 1].1
    }

    /// Whether the set holds no address.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The set as the shortest sorted list of intervals.
    #[must_use]
    pub fn items(&self) -> Vec<Item<B>> {
        self.0
            .iter()
            .map(|&(first, last)| {
                if first == last {
                    Item::Address(first.address())
                } else if let Some(net) = B::exact(first, last) {
                    Item::Prefix(net)
                } else {
                    Item::Range(first.address(), last.address())
                }
            })
            .collect()
    }

    /// First and last address of each interval, sorted.
    pub fn pairs(&self) -> impl Iterator<Item = (B::Address, B::Address)> {
        self.0.iter().map(|&(first, last)| (first.address(), last.address()))
    }
}

#[cfg(test)]
mod tests;
