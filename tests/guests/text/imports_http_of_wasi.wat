;; Imports the HTTP of WASI, which would go around the egress rules.
(module
  (import "wasi:http/outgoing-handler@0.2.0" "handle" (func $handle))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  ;; The answer stands at 16, where memory is zero: ok, scope service-account, an empty session key.
  (func (export "check") (param i32 i32) (result i32)
    i32.const 16)
  (func (export "mount") (param i32) (result i32)
    call $handle
    unreachable))
