//! A program that prints a credential.

pub(crate) mod process_group;

pub(crate) mod process;

pub(crate) mod error_output;

pub(crate) mod command_format;

pub(crate) mod command_source;
