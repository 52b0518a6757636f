//! The DNS library's runtime with connected UDP sockets.
//!
//! Only on a connected socket does the kernel report that a port is closed or
//! a host unreachable, so that the next resolver can be asked at once; and it
//! drops what comes from anywhere else than the resolver.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider};
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;

type Pending<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

/// The runtime; its clones share the tasks that serve TCP connections, which
/// end with the last of them.
#[derive(Clone, Default)]
pub(super) struct Connected(TokioRuntimeProvider);

impl RuntimeProvider for Connected {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = Socket;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        bind: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pending<Self::Tcp> {
        self.0.connect_tcp(server, bind, timeout)
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Pending<Self::Udp> {
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            Ok(Socket::new(socket))
        })
    }
}

/// A UDP socket whose reader also learns of errors: tokio wakes readers for
/// data only, so a refusal would look like silence.
pub(super) struct Socket {
    socket: Arc<UdpSocket>,
    /// Ready once the kernel has an error for the socket; then gone.
    failing: Mutex<Option<Pending<()>>>,
}

impl Socket {
    fn new(socket: UdpSocket) -> Self {
        let socket = Arc::new(socket);
        let watched = socket.clone();
        let failing = async move { watched.ready(Interest::ERROR).await.map(drop) };
        Self {
            socket,
            failing: Mutex::new(Some(Box::pin(failing))),
        }
    }

    fn poll_error(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watch) = failing.as_mut() else {
            return Poll::Pending;
        };
        let result = ready!(watch.as_mut().poll(cx));
        *failing = None;
        match result.and_then(|()| self.socket.take_error()) {
            Ok(Some(error)) | Err(error) => Poll::Ready(error),
            Ok(None) => Poll::Pending,
        }
    }
}

impl DnsUdpSocket for Socket {
    type Time = <TokioRuntimeProvider as RuntimeProvider>::Timer;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buffer = ReadBuf::new(buffer);
        match self.socket.poll_recv_from(cx, &mut buffer) {
            Poll::Ready(from) => Poll::Ready(from.map(|from| (buffer.filled().len(), from))),
            Poll::Pending => self.poll_error(cx).map(Err),
        }
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, bytes: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        self.socket.poll_send_to(cx, bytes, target)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.socket).finish()
    }
}
