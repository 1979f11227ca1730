"""Real mail servers on loopback, each started from a directory of its own and stopped by its own process group.

1. `listener`: what one address of a server is to do (`Listener`), with which certificate (`Credential`), and
   what the server's own log says of each visitor (`Visit`).
2. `process`: starts one program, waits until it answers, stops it.
3. `postfix`, `exim`, `opensmtpd`, `sendmail`, `courier`, `haraka`: a context manager each, `running(listeners)`,
   that turns listeners into the software's own configuration. One start has many listeners, so that it shows
   every mode.
4. `root`: a small Debian to chroot into, for OpenSMTPD, Sendmail and Courier, whose paths are compiled in;
   `syslog` and `transcript` read what such servers log.

Nothing here is scripted: what a server does is the software's doing, which is why tests and the software matrix
use it. Postfix and Exim come from scripts/lab-packages.sh; `missing()` of each module says what is not there.
"""
