//! SQL functions: check arguments, call one function, shape the result. May call anything; nothing calls it.
