"""Words of a translation, which no text for users should hold."""

import re

# `where` as a condition is caught by the word before it, `a` for `per` by the units around it.
AVOIDED = re.compile(
    r"\b(anew|asked|asks|at hand|answers?|be had|believed|go on|goes on|hardly|mend|obeys?|"
    r"photographs?|says?|tells?|told|not where|else where|, where|a (row|line|core|step) an?|"
    r"(images?|steps?|windows?|seconds?) a (core|dot|second|image|step))\b",
    re.IGNORECASE,
)
