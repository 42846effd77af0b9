;; Grows a table until it gets no more, then traps.
(module
  (memory (export "memory") 1)
  (table $hoard 1 funcref)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    i32.const 1024)
  ;; The answer stands at 16, where memory is zero: ok, scope service-account, an empty session key.
  (func (export "check") (param i32 i32) (result i32)
    i32.const 16)
  (func (export "mount") (param i32) (result i32)
    (loop $more
      ;; table.grow answers -1 when it got nothing.
      (br_if $more (i32.ne (table.grow $hoard (ref.null func) (i32.const 1000)) (i32.const -1))))
    unreachable))
