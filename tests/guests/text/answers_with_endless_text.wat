;; Answers with a session key of 4 GiB.
(module
  (memory (export "memory") 1)
  ;; ok; scope service-account; 0xffffffff bytes at 64.
  (data (i32.const 24) "\40\00\00\00\ff\ff\ff\ff")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  ;; The answer stands at 16, where memory is zero: ok, scope service-account, an empty session key.
  (func (export "check") (param i32 i32) (result i32)
    i32.const 16)
  (func (export "mount") (param i32) (result i32)
    unreachable))
