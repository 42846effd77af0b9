;; Imports an interface that is not in the contract.
(module
  (import "acme:backdoor/door@1.0.0" "open" (func $open))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  ;; The answer stands at 16, where memory is zero: ok, scope service-account, an empty session key.
  (func (export "check") (param i32 i32) (result i32)
    i32.const 16)
  (func (export "mount") (param i32) (result i32)
    call $open
    unreachable))
