;; Answers with a session key that is not UTF-8.
(module
  (memory (export "memory") 1)
  ;; ok; scope service-account; two bytes at 64.
  (data (i32.const 24) "\40\00\00\00\02\00\00\00")
  (data (i32.const 64) "\ff\fe")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  ;; The answer stands at 16, where memory is zero: ok, scope service-account, an empty session key.
  (func (export "check") (param i32 i32) (result i32)
    i32.const 16)
  (func (export "mount") (param i32) (result i32)
    unreachable))
