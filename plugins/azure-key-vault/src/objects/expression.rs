//! Which JMESPath expressions a class may use: those that compile, and that the crate evaluates without a panic.
//!
//! The crate adds the step of a slice to a position without a look at the end of its numbers, so `[1::2147483647]`
//! reads outside of the list. `object` is the caller.

use jmespath::ast::Ast;

/// Longer ones are no expressions that somebody wrote; the crate goes as deep as an expression does.
const MAX_BYTES: usize = 500;
/// The largest step. A list has fewer elements, and twice of it is still a number.
const MAX_STEP: u32 = 1 << 30;

/// What is wrong with an expression; reads on after the expression itself.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("is no JMESPath expression (at character {0})")]
    Syntax(usize),
    #[error("has a step beyond {MAX_STEP}")]
    Step,
}

/// Whether `expression` can be the path of a part.
pub(super) fn check(expression: &str) -> Result<(), Problem> {
    if expression.len() > MAX_BYTES {
        return Err(Problem::TooLong);
    }
    let compiled = jmespath::compile(expression).map_err(|error| Problem::Syntax(error.offset + 1))?;
    if is_sound(compiled.as_ast()) { Ok(()) } else { Err(Problem::Step) }
}

fn is_sound(ast: &Ast) -> bool {
    match ast {
        Ast::Slice { step, .. } => step.unsigned_abs() <= MAX_STEP,
        Ast::Identity { .. } | Ast::Field { .. } | Ast::Index { .. } | Ast::Literal { .. } => true,
        Ast::Expref { ast: node, .. }
        | Ast::Flatten { node, .. }
        | Ast::Not { node, .. }
        | Ast::ObjectValues { node, .. } => is_sound(node),
        Ast::Comparison { lhs, rhs, .. }
        | Ast::Condition { predicate: lhs, then: rhs, .. }
        | Ast::Projection { lhs, rhs, .. }
        | Ast::And { lhs, rhs, .. }
        | Ast::Or { lhs, rhs, .. }
        | Ast::Subexpr { lhs, rhs, .. } => is_sound(lhs) && is_sound(rhs),
        Ast::Function { args: nodes, .. } | Ast::MultiList { elements: nodes, .. } => nodes.iter().all(is_sound),
        Ast::MultiHash { elements, .. } => elements.iter().all(|pair| is_sound(&pair.value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_past_the_end_of_numbers_are_refused_wherever_they_stand() {
        for expression in [
            "[1::2147483647]",
            "a[::-2147483647]",
            "a || b[1::2147483647]",
            "sort_by(@, &a[1::2147483647])",
            "[a, b[1::2147483647]]",
            "{a: b[1::2147483647]}",
            "a[?b[1::2147483647]]",
            "!a[][1::2147483647]",
            "*.a[1::2147483647] == `1`",
        ] {
            assert_eq!(check(expression), Err(Problem::Step), "{expression}");
        }
        assert!(matches!(check("[-2147483648]"), Err(Problem::Syntax(_))), "{:?}", check("[-2147483648]"));
        for expression in ["[1::1073741824]", "[-2147483647]", "[2147483647:-2147483647]", "`2147483648`"] {
            assert_eq!(check(expression), Ok(()), "{expression}");
        }
    }

    #[test]
    fn what_does_not_compile_is_refused_where_it_breaks() {
        assert_eq!(check("a."), Err(Problem::Syntax(3)));
        assert_eq!(check(&"a".repeat(501)), Err(Problem::TooLong));
    }
}
