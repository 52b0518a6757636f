//! A small resolver on the loopback addresses answers these.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::str::FromStr;
use std::thread::{self, JoinHandle};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{RData, Record};

use super::*;

type Handler = fn(&Name, RecordType, bool, &mut Message);

struct Responder {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Responder {
    fn on(address: IpAddr, handler: Handler) -> Self {
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let tcp = TcpListener::bind((address, 0)).ok()?;
                let udp = UdpSocket::bind(tcp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .unwrap();
        let address = tcp.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        udp.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let (stop_udp, stop_tcp) = (stop.clone(), stop.clone());
        let datagrams = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stop_udp.load(Ordering::Relaxed) {
                if let Ok((length, from)) = udp.recv_from(&mut buffer) {
                    let answer = reply(&buffer[..length], false, handler);
                    udp.send_to(&answer, from).unwrap();
                }
            }
        });
        let connections = thread::spawn(move || {
            while !stop_tcp.load(Ordering::Relaxed) {
                match tcp.accept() {
                    Ok((stream, _)) => serve(stream, handler),
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Self {
            address,
            stop,
            threads: vec![datagrams, connections],
        }
    }

    fn v4(handler: Handler) -> Self {
        Self::on(Ipv4Addr::LOCALHOST.into(), handler)
    }

    fn v6(handler: Handler) -> Self {
        Self::on(Ipv6Addr::LOCALHOST.into(), handler)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a responder's thread panicked");
        }
    }
}

fn serve(mut stream: TcpStream, handler: Handler) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query).unwrap();
    let answer = reply(&query, true, handler);
    let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length[..], &answer].concat()).unwrap();
}

fn reply(query: &[u8], tcp: bool, handler: Handler) -> Vec<u8> {
    let query = Message::from_vec(query).unwrap();
    let question = query.queries[0].clone();
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata.recursion_desired = true;
    message.metadata.recursion_available = true;
    message.add_query(question.clone());
    handler(question.name(), question.query_type(), tcp, &mut message);
    message.to_vec().unwrap()
}

fn record(name: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(Name::from_str(name).unwrap(), ttl, data)
}

fn v4(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(203, 0, 113, last)))
}

fn v6(last: u16) -> RData {
    RData::AAAA(AAAA(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)))
}

fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(Name::from_str(target).unwrap()))
}

/// What the ordinary resolver of these tests knows.
fn zone(name: &Name, family: RecordType, tcp: bool, message: &mut Message) {
    let name = name.to_string();
    let is_v4 = family == RecordType::A;
    let own = |last: u16| {
        if is_v4 { v4(last.to_le_bytes()[0]) } else { v6(last) }
    };
    match name.as_str() {
        "plain.example.com." => {
            message.add_answer(record(&name, 300, own(2)));
            message.add_answer(record(&name, 200, own(1)));
            message.add_answer(record(&name, 300, own(2)));
            message.add_answer(record("elsewhere.example.", 1, own(99)));
        }
        "alias.example.com." => {
            message.add_answer(record("end.example.", 90, own(3)));
            message.add_answer(record("Middle.Example.", 80, alias("end.example.")));
            message.add_answer(record(&name, 70, alias("middle.example.")));
        }
        "circle.example.com." => {
            message.add_answer(record(&name, 70, alias("other.example.")));
            message.add_answer(record("other.example.", 70, alias("circle.example.com.")));
        }
        "long.example.com." => {
            message.add_answer(record(&name, 90_000, own(4)));
        }
        "large.example.com." if !tcp => message.metadata.truncation = true,
        "large.example.com." => {
            for last in 0..300 {
                message.add_answer(record(&name, 60, v6(last)));
                message.add_answer(record(&name, 60, v4(last.to_le_bytes()[0])));
            }
        }
        "half.example.com." if is_v4 => {
            message.add_answer(record(&name, 60, v4(5)));
        }
        "half.example.com." => message.metadata.response_code = ResponseCode::ServFail,
        "empty.example.com." => {}
        "broken.example.com." => message.metadata.response_code = ResponseCode::ServFail,
        name if name.starts_with("many") => {
            message.add_answer(record(name, 60, own(6)));
        }
        _ => message.metadata.response_code = ResponseCode::NXDomain,
    }
}

const LONG: Duration = Duration::from_secs(5);

fn resolution(names: &[&str], servers: &[SocketAddr], deadline: Duration) -> Resolution {
    resolve(names, servers, deadline, &mut |_, _| {}).unwrap()
}

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

/// A port on which nobody listens.
fn closed() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn both_families_are_asked_over_both_families_and_strangers_in_the_answer_are_ignored() {
    for server in [Responder::v4(zone), Responder::v6(zone)] {
        let result = resolution(&["plain.example.com"], &[server.address], LONG);
        assert_eq!(result.unreachable, None);
        assert_eq!(
            result.answers["plain.example.com"],
            Answer {
                addresses: addresses(&["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2"]),
                ttl: Duration::from_secs(200),
                problem: None,
            }
        );
    }
}

#[test]
fn aliases_are_followed_whatever_their_order_and_the_shortest_ttl_counts() {
    let server = Responder::v4(zone);
    let result = resolution(&["alias.example.com", "circle.example.com"], &[server.address], LONG);
    let answer = &result.answers["alias.example.com"];
    assert_eq!(answer.addresses, addresses(&["203.0.113.3", "2001:db8::3"]));
    assert_eq!(answer.ttl, Duration::from_secs(70));
    let circle = &result.answers["circle.example.com"];
    assert_eq!(circle.problem, Some(Problem::NoAddresses));
}

#[test]
fn a_ttl_is_at_most_an_hour() {
    let server = Responder::v4(zone);
    let result = resolution(&["long.example.com"], &[server.address], LONG);
    assert_eq!(result.answers["long.example.com"].ttl, MAX_TTL);
}

#[test]
fn names_without_addresses_say_why_and_hold_up_nobody() {
    let server = Responder::v4(zone);
    let names = [
        "absent.example.com",
        "empty.example.com",
        "broken.example.com",
        "a\u{1}..b",
    ];
    let start = std::time::Instant::now();
    let result = resolution(&names, &[server.address], LONG);
    assert!(start.elapsed() < Duration::from_secs(2));
    let problem = |name: &str| result.answers[name].problem.clone().unwrap();
    assert_eq!(problem(names[0]), Problem::NoSuchName);
    assert_eq!(problem(names[1]), Problem::NoAddresses);
    assert!(matches!(problem(names[2]), Problem::ServerFailure(_)));
    assert!(matches!(problem(names[3]), Problem::ServerFailure(_)));
    assert_eq!(result.unreachable, None);
}

#[test]
fn one_family_that_fails_does_not_take_the_other_with_it() {
    let server = Responder::v6(zone);
    let result = resolution(&["half.example.com"], &[server.address], LONG);
    let answer = &result.answers["half.example.com"];
    assert_eq!(answer.addresses, addresses(&["203.0.113.5"]));
    assert_eq!(answer.problem, None);
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp_and_capped() {
    for server in [Responder::v4(zone), Responder::v6(zone)] {
        let result = resolution(&["large.example.com"], &[server.address], LONG);
        let answer = &result.answers["large.example.com"];
        assert_eq!(answer.problem, None);
        assert_eq!(answer.addresses.len(), MAX_ADDRESSES);
    }
}

#[test]
fn the_next_resolver_is_asked_where_one_is_closed_silent_or_failing() {
    let good = Responder::v6(zone);
    let failing = Responder::v4(|_, _, _, message| {
        message.metadata.response_code = ResponseCode::ServFail;
    });
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    for bad in [closed(), failing.address, silent.local_addr().unwrap()] {
        let result = resolution(&["plain.example.com"], &[bad, good.address], LONG);
        assert_eq!(result.answers["plain.example.com"].addresses.len(), 4, "{bad}");
        assert_eq!(result.unreachable, None);
    }
}

#[test]
fn many_names_behind_a_silent_resolver_are_answered_within_the_deadline() {
    let good = Responder::v4(zone);
    let silent = UdpSocket::bind("[::1]:0").unwrap();
    let names: Vec<String> = (0..500).map(|i| format!("many{i}.example.com")).collect();
    let servers = [silent.local_addr().unwrap(), good.address];
    let mut calls = Vec::new();
    let result = resolve(&names, &servers, LONG, &mut |done, all| calls.push((done, all))).unwrap();
    assert_eq!(result.answers.len(), 500);
    assert!(result.answers.values().all(|answer| answer.addresses.len() == 2));
    let expected: Vec<(usize, usize)> = (1..=500).map(|done| (done, 500)).collect();
    assert_eq!(calls, expected);
}

#[test]
fn a_resolver_that_never_answers_is_given_up_at_the_deadline() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let names: Vec<String> = (0..300).map(|i| format!("many{i}.example.com")).collect();
    let deadline = Duration::from_millis(700);
    let start = std::time::Instant::now();
    let result = resolve(&names, &[silent.local_addr().unwrap()], deadline, &mut |_, _| {}).unwrap();
    assert!(start.elapsed() >= deadline && start.elapsed() < Duration::from_secs(2));
    assert_eq!(result.answers.len(), 300);
    assert!(result.answers.values().all(|a| a.problem == Some(Problem::Timeout)));
    let reason = result.unreachable.unwrap();
    assert!(reason.ends_with("(no answer in time)"), "{reason}");
}

#[test]
fn closed_ports_are_reported_once_and_at_once() {
    let servers = [closed(), "[::1]:1".parse().unwrap()];
    let start = std::time::Instant::now();
    let result = resolution(&["a.example.com", "b.example.com"], &servers, LONG);
    assert!(start.elapsed() < Duration::from_secs(1));
    let reason = result.unreachable.unwrap();
    assert!(reason.contains(&servers[0].to_string()), "{reason}");
    assert_eq!(reason.matches("refused").count(), 2, "{reason}");
}

#[test]
fn without_names_nothing_is_asked_and_without_resolvers_it_is_an_error() {
    assert_eq!(resolution(&[], &[], LONG), Resolution::default());
    let result = resolve(&["a.example.com"], &[], LONG, &mut |_, _| {});
    assert!(matches!(result, Err(ResolveError::NoServers)));
}
