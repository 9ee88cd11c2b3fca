package guard

import (
	"encoding/binary"
	"errors"
	"syscall"
)

// The protocol between watcher and guard: one message per packet of a SOCK_SEQPACKET socket pair. Numbers are unsigned
// varints, strings and lists carry their length in front. Not JSON: arguments are bytes and need not be UTF-8.

// protocol is bumped with every change; Options.Executable may be another build than the one that runs.
const protocol = 1

// maxMessage bounds a packet: the largest command, with room for the numbers and the lengths. It stays below the
// kernel's default socket buffer (net.core.wmem_default, 212992), which a packet must fit in.
const maxMessage = MaxArgs + MaxStdin + 4<<10

type kind byte

const (
	kindHello   kind = iota + 1 // guard: I am ready; id is the protocol
	kindRun                     // watcher: run this
	kindCancel                  // watcher: kill it now
	kindStarted                 // guard: it runs under this process id
	kindEnded                   // guard: it ended, or could not be started
)

type outcome byte

const (
	outcomeExit   outcome = iota + 1 // by itself; code is the exit code
	outcomeKilled                    // by the guard
	outcomeStuck                     // killed by the guard, and still not gone
	outcomeFailed                    // not started; code is the errno
)

var errMessage = errors.New("malformed message")

// request is what the watcher sends.
type request struct {
	kind     kind
	id       uint64
	deadline int64 // CLOCK_BOOTTIME, nanoseconds: absolute, so that time spent on the way counts
	path     string
	dir      string
	stdin    []byte
	argv     []string
	env      []string
}

func (r request) encode() []byte {
	b := make([]byte, 0, 256)
	b = append(b, byte(r.kind))
	b = binary.AppendUvarint(b, r.id)
	if r.kind != kindRun {
		return b
	}
	b = binary.AppendUvarint(b, uint64(max(r.deadline, 0)))
	b = appendBytes(b, r.path)
	b = appendBytes(b, r.dir)
	b = appendBytes(b, r.stdin)
	b = appendList(b, r.argv)
	return appendList(b, r.env)
}

func decodeRequest(b []byte) (request, error) {
	d := decoder{b: b}
	r := request{kind: kind(d.byte()), id: d.number()}
	switch r.kind {
	case kindRun:
		r.deadline = int64(d.number())
		r.path, r.dir, r.stdin = string(d.bytes()), string(d.bytes()), d.bytes()
		r.argv, r.env = d.list(), d.list()
		d.bad = d.bad || len(r.argv) == 0
	case kindCancel:
	default:
		d.bad = true
	}
	return r, d.end()
}

// reply is what the guard sends.
type reply struct {
	kind    kind
	id      uint64
	pid     uint64
	outcome outcome
	code    uint64
	output  []byte
}

// errno is why a program could not be started.
func (r reply) errno() syscall.Errno { return syscall.Errno(r.code) }

func (r reply) encode() []byte {
	b := make([]byte, 0, 64+len(r.output))
	b = append(b, byte(r.kind), byte(r.outcome))
	b = binary.AppendUvarint(b, r.id)
	b = binary.AppendUvarint(b, r.pid)
	b = binary.AppendUvarint(b, r.code)
	return appendBytes(b, r.output)
}

func decodeReply(b []byte) (reply, error) {
	d := decoder{b: b}
	r := reply{kind: kind(d.byte()), outcome: outcome(d.byte()), id: d.number(), pid: d.number(), code: d.number(), output: d.bytes()}
	return r, d.end()
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendList(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendBytes(b, s)
	}
	return b
}

// decoder takes a message apart. After the first fault it yields zero values; end reports it.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

// bytes returns a copy: the buffer below is used again for the next message.
func (d *decoder) bytes() []byte {
	n := d.number()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	s := append([]byte(nil), d.b[:n]...)
	d.b = d.b[n:]
	return s
}

func (d *decoder) list() []string {
	n := d.number()
	if n > uint64(len(d.b)) { // each element takes at least its length's byte
		d.bad, d.b = true, nil
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i] = string(d.bytes())
	}
	return list
}

func (d *decoder) end() error {
	if d.bad || len(d.b) != 0 {
		return errMessage
	}
	return nil
}
