//! tower-auth
#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod source;
mod token;

pub use error::{BoxError, Error};
pub use source::{Reason, TokenSource};
pub use token::Token;
