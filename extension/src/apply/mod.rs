//! Subscriber: messages to rows. One remote transaction is one local transaction.
