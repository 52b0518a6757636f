//! One question to one resolver, over UDP and, where the answer doesn't fit,
//! over TCP; and what its answer says.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_net::runtime::RuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::udp::UdpClientStream;
use hickory_net::xfer::{DnsHandle, DnsRequestSender, FirstAnswer};
use hickory_net::{DnsError, NetError};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use super::transport::Connected;

/// How many aliases are followed within one answer.
const MAX_CHAIN: usize = 16;
/// When a datagram is sent again, in milliseconds; within one attempt at most
/// three are sent.
const RESEND: u64 = 333;

/// Why a resolver gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nothing came in time.
    Timeout,
    /// The network refused, so nothing will come.
    Unreachable(String),
    /// The resolver answered that it can't tell, or nonsense.
    Server(String),
}

/// What a resolver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Addresses, and for how many seconds they hold.
    Addresses(Vec<IpAddr>, u32),
    /// The name has none of the family that was asked for.
    NoAddresses,
    /// The name doesn't exist.
    NoSuchName,
}

/// Asks one resolver, spending at most `budget`.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    family: RecordType,
    budget: Duration,
) -> Result<Reply, Failure> {
    let question = Query::query(name.clone(), family);
    let exchange = async {
        let response = over_udp(server, request(&question), budget).await?;
        if response.metadata.truncation {
            over_tcp(server, request(&question), budget).await
        } else {
            Ok(response)
        }
    };
    match tokio::time::timeout(budget, exchange).await {
        Ok(Ok(response)) => read(&response, &question),
        Ok(Err(error)) => Err(failure(&error)),
        Err(_) => Err(Failure::Timeout),
    }
}

fn request(question: &Query) -> DnsRequest {
    DnsRequest::from_query(question.clone(), DnsRequestOptions::default())
}

async fn over_udp(server: SocketAddr, request: DnsRequest, budget: Duration) -> Result<DnsResponse, NetError> {
    let mut stream = UdpClientStream::builder(server, Connected::default())
        .with_timeout(Some(budget))
        .with_max_retries(3)
        .with_retry_interval_floor(RESEND)
        .build();
    stream.send_message(request).first_answer().await
}

async fn over_tcp(server: SocketAddr, request: DnsRequest, budget: Duration) -> Result<DnsResponse, NetError> {
    type Stream = TcpClientStream<<Connected as RuntimeProvider>::Tcp>;
    // The connection's task ends with the last of the providers, so one stays here.
    let provider = Connected::default();
    let exchange = Stream::exchange(server, None, budget, None, provider.clone()).await?;
    exchange.send(request).first_answer().await
}

fn failure(error: &NetError) -> Failure {
    match error {
        NetError::Timeout => Failure::Timeout,
        NetError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Failure::Timeout,
        NetError::Io(error) => Failure::Unreachable(plain(&error.to_string())),
        NetError::Dns(DnsError::ResponseCode(code)) => Failure::Server(code.to_str().to_owned()),
        other => Failure::Server(plain(&other.to_string())),
    }
}

/// Messages end up in a line of their own, and parts of them come from the network.
fn plain(message: &str) -> String {
    message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(160)
        .collect()
}

fn read(response: &Message, question: &Query) -> Result<Reply, Failure> {
    // Over TCP the library compares only the id.
    if response.queries != [question.clone()] || response.metadata.truncation {
        return Err(Failure::Server("an answer to another question".to_owned()));
    }
    match response.metadata.response_code {
        ResponseCode::NoError => {
            let (addresses, ttl) = addresses(response, question);
            Ok(if addresses.is_empty() {
                Reply::NoAddresses
            } else {
                Reply::Addresses(addresses, ttl)
            })
        }
        ResponseCode::NXDomain => Ok(Reply::NoSuchName),
        code => Err(Failure::Server(code.to_str().to_owned())),
    }
}

/// The addresses that belong to the question: its own, or those at the end of
/// the chain of aliases that begins there. Whatever else the resolver put into
/// the answer is none of ours. They hold as long as the whole chain does.
fn addresses(response: &Message, question: &Query) -> (Vec<IpAddr>, u32) {
    let mut owner = question.name();
    let mut ttl = u32::MAX;
    for _ in 0..=MAX_CHAIN {
        let mut found = Vec::new();
        let mut alias = None;
        let mut held = u32::MAX;
        for record in &response.answers {
            if record.dns_class != DNSClass::IN || record.name != *owner {
                continue;
            }
            match &record.data {
                RData::A(a) if question.query_type() == RecordType::A => {
                    found.push(IpAddr::V4(a.0));
                    held = held.min(seconds(record.ttl));
                }
                RData::AAAA(aaaa) if question.query_type() == RecordType::AAAA => {
                    found.push(IpAddr::V6(aaaa.0));
                    held = held.min(seconds(record.ttl));
                }
                RData::CNAME(target) if alias.is_none() => {
                    alias = Some((&target.0, seconds(record.ttl)));
                }
                _ => {}
            }
        }
        if !found.is_empty() {
            return (found, ttl.min(held));
        }
        let Some((target, held)) = alias else {
            break;
        };
        ttl = ttl.min(held);
        owner = target;
    }
    (Vec::new(), 0)
}

/// A TTL with its highest bit set counts as zero (RFC 2181, 8).
fn seconds(ttl: u32) -> u32 {
    if ttl > u32::MAX >> 1 { 0 } else { ttl }
}
