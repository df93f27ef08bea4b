//! Access to files, which differs between Unix and other systems.
//!
//! Both modules have the same functions. With `--cfg tower_auth_portable`, Unix also uses
//! `portable`, so that the tests run that module.

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
