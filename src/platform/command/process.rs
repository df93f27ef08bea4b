//! Runs a program in its own process group, with limits on its time and its output.

use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::{Either, select, try_join};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::process_group::ProcessGroup;

/// The maximum length of the output in bytes.
const LIMIT: usize = 64 * 1024;

/// The number of bytes of the error output that are kept. The last bytes are kept, because most
/// programs print the cause at the end.
const ERROR_LIMIT: usize = 4 * 1024;

/// The time to read the rest of the output after the program has ended. A process that the program
/// started in the background may keep the output open.
const REST_TIMEOUT: Duration = Duration::from_millis(250);

/// What a program printed, and how the program ended.
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Zeroizing<Vec<u8>>,
    /// The last bytes of the error output.
    pub(crate) stderr: Zeroizing<Vec<u8>>,
}

/// The reason why a program has no output.
#[derive(Debug)]
pub(crate) enum Failure {
    NotStarted(io::Error),
    NotRead(io::Error),
    TooLong,
    TimedOut(Duration),
}

/// Runs the program until it ends. The program gets no input.
///
/// If the future is dropped, or if this function fails, the program is killed with its process
/// group.
pub(crate) async fn run(mut command: Command, limit: Duration) -> Result<Output, Failure> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    ProcessGroup::lead(&mut command);
    let mut child = command.spawn().map_err(Failure::NotStarted)?;
    // Declared after the child, so that the group is killed before the child's id is released.
    let mut group = ProcessGroup::of(&child);
    let output = timeout(limit, output_of(&mut child, &mut group)).await;
    output.unwrap_or(Err(Failure::TimedOut(limit)))
}

async fn output_of(child: &mut Child, group: &mut ProcessGroup) -> Result<Output, Failure> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    // A buffer that grows leaves copies in memory that aren't zeroized.
    let mut stdout = Zeroizing::new(Vec::with_capacity(LIMIT + 1));
    let mut stderr = Zeroizing::new(Vec::with_capacity(2 * ERROR_LIMIT));
    let status = {
        let read = pin!(try_join(
            read_all(out, &mut stdout),
            read_last(err, &mut stderr)
        ));
        let ended = pin!(async {
            let status = child.wait().await;
            group.keep();
            status
        });
        match select(read, ended).await {
            // A program may close its output before it ends.
            Either::Left((read, ended)) => {
                read?;
                ended.await
            }
            Either::Right((status, read)) => {
                // If a background process keeps the output open, the output may still be complete.
                if let Ok(read) = timeout(REST_TIMEOUT, read).await {
                    read?;
                }
                status
            }
        }
    };
    Ok(Output {
        status: status.map_err(Failure::NotRead)?,
        stdout,
        stderr,
    })
}

async fn read_all(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> Result<(), Failure> {
    let Some(mut from) = from else { return Ok(()) };
    // The buffer never grows, because `read_buf` reads at most to the end of the capacity.
    while to.len() <= LIMIT {
        if from.read_buf(to).await.map_err(Failure::NotRead)? == 0 {
            return Ok(());
        }
    }
    Err(Failure::TooLong)
}

/// Reads to the end, and keeps the last bytes. Continues to read after the limit, because otherwise
/// the program would block when it writes.
async fn read_last(from: Option<impl AsyncRead + Unpin>, to: &mut Vec<u8>) -> Result<(), Failure> {
    let Some(mut from) = from else { return Ok(()) };
    while from.read_buf(to).await.map_err(Failure::NotRead)? > 0 {
        let surplus = to.len().saturating_sub(ERROR_LIMIT);
        to.drain(..surplus);
    }
    Ok(())
}
