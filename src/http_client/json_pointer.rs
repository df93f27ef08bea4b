//! JSON pointers (RFC 6901) that users set.

use crate::error::{Error, Kind};

/// Checks that a JSON pointer names a field of an object. The pointer must not contain an empty
/// name.
pub(crate) fn checked(pointer: String) -> Result<String, Error> {
    let is_name = |name: &str| {
        let mut escapes = name.split('~').skip(1);
        !name.is_empty() && escapes.all(|after| after.starts_with(['0', '1']))
    };
    let names = pointer.strip_prefix('/');
    if names.is_some_and(|names| names.split('/').all(is_name)) {
        return Ok(pointer);
    }
    let message = format!(
        "`{}` isn't a JSON pointer to a field; write it as `/name` or `/outer/name` (RFC 6901)",
        pointer.escape_debug()
    );
    Err(Error::new(Kind::Config, message))
}

/// Returns the unescaped names of the pointer, from the outermost object to the field.
pub(crate) fn names(pointer: &str) -> impl Iterator<Item = String> {
    let names = pointer.split('/').skip(1);
    names.map(|name| name.replace("~1", "/").replace("~0", "~"))
}

/// Defines public setters of fields that contain a JSON pointer. The caller writes the first line
/// of each setter's docs.
macro_rules! pointer_setters {
    ($($(#[$doc:meta])+ $setter:ident => $($field:ident).+;)+) => { $(
        $(#[$doc])+
        ///
        /// # Errors
        ///
        /// [`is_config`](crate::Error::is_config) if the text isn't a JSON pointer (RFC 6901) to a
        /// field.
        pub fn $setter(
            mut self,
            pointer: impl Into<String>,
        ) -> Result<Self, crate::error::Error> {
            self.$($field).+ = crate::http_client::json_pointer::checked(pointer.into())?;
            Ok(self)
        }
    )+ };
}

pub(crate) use pointer_setters;
