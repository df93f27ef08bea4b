//! Waits until a connection has sent what it was given.
//!
//! hyper drops what it hasn't sent yet when a body breaks. HTTP/2 sends on the connection's task, and
//! polls bodies on others. So a body that will break waits for two completed flushes. The first one
//! may have started before the body's last bytes arrived; the second one sends them.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::lock::lock;

/// The flushes of one connection. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flushes {
    state: Arc<Mutex<FlushState>>,
}

#[derive(Debug, Default)]
struct FlushState {
    completed: usize,
    /// The connection's task.
    connection: Option<Waker>,
    /// The tasks that wait for the next flush.
    waiting: Vec<Waker>,
}

impl Flushes {
    /// Returns what waits for the next two flushes, from its first poll on.
    pub(crate) fn wait_for_two(&self) -> TwoFlushes {
        TwoFlushes {
            flushes: self.clone(),
            until: None,
        }
    }

    fn start(&self, cx: &Context<'_>) {
        lock(&self.state).connection = Some(cx.waker().clone());
    }

    fn complete(&self) {
        let waiting = {
            let mut state = lock(&self.state);
            state.completed += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.iter().for_each(Waker::wake_by_ref);
    }
}

/// Waits for two flushes.
#[derive(Debug)]
pub(crate) struct TwoFlushes {
    flushes: Flushes,
    /// How many flushes are completed then.
    until: Option<usize>,
}

impl TwoFlushes {
    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        let connection = {
            let mut state = lock(&self.flushes.state);
            let until = *self.until.get_or_insert(state.completed + 2);
            if state.completed >= until {
                return Poll::Ready(());
            }
            state.waiting.push(cx.waker().clone());
            state.connection.clone()
        };
        // Each poll of the connection flushes.
        if let Some(connection) = connection {
            connection.wake();
        }
        Poll::Pending
    }
}

/// A connection that counts its flushes.
pub(crate) struct CountsFlushes<C> {
    connection: C,
    flushes: Flushes,
}

impl<C> CountsFlushes<C> {
    pub(crate) fn new(connection: C, flushes: Flushes) -> Self {
        Self {
            connection,
            flushes,
        }
    }
}

impl<C> Read for CountsFlushes<C>
where
    C: Read + Unpin,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

impl<C> Write for CountsFlushes<C>
where
    C: Write + Unpin,
{
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.flushes.start(cx);
        ready!(Pin::new(&mut self.connection).poll_flush(cx))?;
        self.flushes.complete();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}
