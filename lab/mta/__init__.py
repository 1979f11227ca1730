"""Real mail servers on loopback, each started from a directory of its own and stopped by its own process group.

1. `listener`: what one address of a server is to do (`Listener`), with which certificate (`Credential`), and
   what the server's own log says of each visitor (`Visit`).
2. `process`: starts one program, waits until it answers, stops it.
3. `postfix`, `exim`: a context manager each, `running(listeners)`, that turns listeners into the software's own
   configuration. One instance has many listeners, so that one start shows every mode.

Nothing here is scripted: what a server does is the software's doing, which is why tests and the software matrix
use it. The programs come from scripts/lab-packages.sh; `missing()` of each module says what is not there.
"""
