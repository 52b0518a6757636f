//! The field's words as constructors: what a rule says, without its nesting.
//!
//! Every form is written as libnftables lists it again, so that meant and live rules can be compared as they are.
//! Three things libnftables accepts with success and gets wrong are kept out here: a priority that isn't an integer, a
//! conntrack state matched with `==`, and flags that aren't a list.

use std::borrow::Cow;

use nftables::expr::{
    CT, Expression, Exthdr, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField, Prefix,
    SetItem,
};
use nftables::stmt::{Counter, JumpTarget, Log, Mangle, Match, Operator, Reject, RejectType, Statement};
use nftables::types::RejectCode;

pub(super) type Expr = Expression<'static>;
pub(super) type Stmt = Statement<'static>;

/// NFLOG group that the packet log reads.
pub const LOG_GROUP: u32 = 100;

pub(super) fn text(value: impl Into<Cow<'static, str>>) -> Expr {
    Expression::String(value.into())
}

pub(super) fn payload(protocol: &'static str, field: &'static str) -> Expr {
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(PayloadField {
        protocol: protocol.into(),
        field: field.into(),
    })))
}

pub(super) fn meta(key: MetaKey) -> Expr {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

fn ct(key: &'static str) -> Expr {
    Expression::Named(NamedExpression::CT(CT {
        key: key.into(),
        family: None,
        dir: None,
    }))
}

pub(super) fn concat(parts: Vec<Expr>) -> Expr {
    Expression::Named(NamedExpression::Concat(parts))
}

pub(super) fn prefix(address: String, len: u32) -> Expr {
    Expression::Named(NamedExpression::Prefix(Prefix {
        addr: Box::new(text(address)),
        len,
    }))
}

pub(super) fn any_of(items: Vec<Expr>) -> Expr {
    Expression::Named(NamedExpression::Set(items.into_iter().map(SetItem::Element).collect()))
}

fn matching(left: Expr, op: Operator, right: Expr) -> Stmt {
    Statement::Match(Match { left, right, op })
}

pub(super) fn is(left: Expr, right: Expr) -> Stmt {
    matching(left, Operator::EQ, right)
}

pub(super) fn is_not(left: Expr, right: Expr) -> Stmt {
    matching(left, Operator::NEQ, right)
}

pub(super) fn in_set(left: Expr, set: impl std::fmt::Display) -> Stmt {
    is(left, text(format!("@{set}")))
}

pub(super) fn nfproto(name: &'static str) -> Stmt {
    is(meta(MetaKey::Nfproto), text(name))
}

pub(super) fn l4proto(name: &'static str) -> Stmt {
    is(meta(MetaKey::L4proto), text(name))
}

pub(super) fn tcp_or_udp() -> Stmt {
    is(meta(MetaKey::L4proto), any_of(vec![text("tcp"), text("udp")]))
}

/// The destination is an address of this namespace. Loopback is recognised by it and not by the interface: after a
/// redirect the packet still carries the old one.
pub(super) fn to_local_address() -> Stmt {
    local(FibFlag::Daddr)
}

/// The source is an address of this namespace.
pub(super) fn from_local_address() -> Stmt {
    local(FibFlag::Saddr)
}

fn local(end: FibFlag) -> Stmt {
    is(
        Expression::Named(NamedExpression::Fib(Fib {
            result: FibResult::Type,
            flags: std::iter::once(end).collect(),
        })),
        text("local"),
    )
}

pub(super) fn from_loopback() -> Stmt {
    is(meta(MetaKey::Iifname), text("lo"))
}

pub(super) fn out_of_other_than_loopback() -> Stmt {
    is_not(meta(MetaKey::Oifname), text("lo"))
}

pub(super) fn routing_header() -> Stmt {
    is(
        Expression::Named(NamedExpression::Exthdr(Exthdr {
            name: "rt".into(),
            field: None,
            offset: None,
        })),
        Expression::Boolean(true),
    )
}

/// ICMPv6 of these types that no router forwarded (RFC 4861, 6.1 and 7.1: hop limit 255).
pub(super) fn neighbour_discovery(types: &[&'static str]) -> Vec<Stmt> {
    vec![
        is(
            payload("icmpv6", "type"),
            any_of(types.iter().map(|name| text(*name)).collect()),
        ),
        is(payload("ip6", "hoplimit"), Expression::Number(255)),
    ]
}

/// `new`, `related`, ... A list of states with `==` never matches; `in` is the operator that libnftables means.
pub(super) fn ct_state(state: &'static str) -> Stmt {
    matching(ct("state"), Operator::IN, text(state))
}

pub(super) fn ct_direction(direction: &'static str) -> Stmt {
    is(ct("direction"), text(direction))
}

pub(super) fn ct_mark(mark: u32) -> Stmt {
    is(ct("mark"), Expression::Number(mark))
}

pub(super) fn set_ct_mark(mark: u32) -> Stmt {
    Statement::Mangle(Mangle {
        key: ct("mark"),
        value: Expression::Number(mark),
    })
}

pub(super) fn count(counter: &'static str) -> Stmt {
    Statement::Counter(Counter::Named(counter.into()))
}

pub(super) fn log(prefix: &'static str) -> Stmt {
    Statement::Log(Some(Log {
        prefix: Some(prefix.into()),
        group: Some(LOG_GROUP),
        snaplen: None,
        queue_threshold: None,
        level: None,
        flags: None,
    }))
}

pub(super) fn reset() -> Stmt {
    Statement::Reject(Some(Reject::new(Some(RejectType::TCPReset), None)))
}

pub(super) fn admin_prohibited() -> Stmt {
    Statement::Reject(Some(Reject::new(
        Some(RejectType::ICMPX),
        Some(RejectCode::AdminProhibited),
    )))
}

pub(super) fn accept() -> Stmt {
    Statement::Accept(None)
}

pub(super) fn drop() -> Stmt {
    Statement::Drop(None)
}

pub(super) fn goto(chain: impl Into<Cow<'static, str>>) -> Stmt {
    Statement::Goto(JumpTarget { target: chain.into() })
}
