;; Answers with a scope that does not exist.
(module
  (memory (export "memory") 1)
  ;; ok, the scope 7.
  (data (i32.const 20) "\07")
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  ;; The answer stands at 16, where memory is zero: ok, scope service-account, an empty session key.
  (func (export "check") (param i32 i32) (result i32)
    i32.const 16)
  (func (export "mount") (param i32) (result i32)
    unreachable))
