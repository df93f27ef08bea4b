//! The process group of a program, which contains all processes that the program starts.

pub(crate) use system::ProcessGroup;

#[cfg(all(unix, not(tower_auth_portable)))]
mod system {
    use rustix::process::{Pid, Signal, kill_process_group};
    use tokio::process::{Child, Command};

    /// The program's process group, which is killed when this value is dropped.
    pub(crate) struct ProcessGroup(Option<Pid>);

    impl ProcessGroup {
        /// Makes the program start in a group of its own.
        pub(crate) fn lead(command: &mut Command) {
            command.process_group(0);
        }

        pub(crate) fn of(child: &Child) -> Self {
            let id = child.id().and_then(|id| i32::try_from(id).ok());
            Self(id.and_then(Pid::from_raw))
        }

        /// Lets the other processes of the group continue. Call this method when the program has
        /// ended, because another group may get the same id afterwards. The program left the other
        /// processes on purpose: one may be an agent.
        pub(crate) fn keep(&mut self) {
            self.0 = None;
        }
    }

    impl Drop for ProcessGroup {
        fn drop(&mut self) {
            if let Some(id) = self.0 {
                // Fails if the whole group has already ended.
                let _ = kill_process_group(id, Signal::KILL);
            }
        }
    }
}

/// Other systems have no process groups. Tokio kills the program itself.
#[cfg(not(all(unix, not(tower_auth_portable))))]
mod system {
    use tokio::process::{Child, Command};

    pub(crate) struct ProcessGroup;

    impl ProcessGroup {
        pub(crate) fn lead(_: &mut Command) {}

        pub(crate) fn of(_: &Child) -> Self {
            Self
        }

        pub(crate) fn keep(&mut self) {}
    }
}
