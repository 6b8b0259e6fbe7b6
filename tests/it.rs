//! All tests of Headroom as a whole, in one binary.

mod agreement;
mod alarms;
mod bad_input;
mod books;
mod deploy_command;
mod disk;
mod feed;
mod foreign;
mod grace_faketime;
mod hostile;
mod kills;
mod licenses;
mod media_servers;
mod openapi;
mod overload;
mod partitions;
mod purity;
mod reasons;
mod sip;
mod storage;
mod store;
mod story;
mod twice;
