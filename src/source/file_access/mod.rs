//! What Unix and other systems do differently with files.
//!
//! Both files have the same functions. With `--cfg tower_auth_portable`, Unix uses the file for
//! other systems too, so that the tests run this file.

#[cfg(any(not(unix), tower_auth_portable))]
mod portable;
#[cfg(all(unix, not(tower_auth_portable)))]
mod unix;

#[cfg(any(not(unix), tower_auth_portable))]
pub(crate) use portable::{
    age_of, create_folder, foreign_owner, mode_of, owners_only, sync_folder,
};
#[cfg(all(unix, not(tower_auth_portable)))]
pub(crate) use unix::{age_of, create_folder, foreign_owner, mode_of, owners_only, sync_folder};
