//! A program that prints a credential.

pub(crate) mod process;

pub(crate) mod command_format;

pub(crate) mod command_source;
