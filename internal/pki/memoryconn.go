// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memoryPipe returns the two ends of a connection in memory. Unlike net.Pipe it has a buffer, as a network has: two sides
// that write at the same time, one of them an alert, do not block each other forever.
func memoryPipe() (near, far net.Conn) {
	there, back := newMemoryStream(), newMemoryStream()
	return &memoryConn{in: back, out: there}, &memoryConn{in: there, out: back}
}

// memoryStream is one direction of a connection.
type memoryStream struct {
	mu     sync.Mutex
	more   *sync.Cond
	data   bytes.Buffer
	closed bool
}

func newMemoryStream() *memoryStream {
	s := &memoryStream{}
	s.more = sync.NewCond(&s.mu)
	return s
}

func (s *memoryStream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.more.Broadcast()
}

type memoryConn struct{ in, out *memoryStream }

// Read waits for data or until either end is closed. Data written before the close can still be read.
func (c *memoryConn) Read(b []byte) (int, error) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	for c.in.data.Len() == 0 {
		if c.in.closed {
			return 0, io.EOF
		}
		c.in.more.Wait()
	}
	return c.in.data.Read(b)
}

// Write never blocks. Data written to a closed end is lost, as in a network.
func (c *memoryConn) Write(b []byte) (int, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.closed {
		return len(b), nil
	}
	c.out.more.Broadcast()
	return c.out.data.Write(b)
}

// Close ends both directions.
func (c *memoryConn) Close() error {
	c.in.close()
	c.out.close()
	return nil
}

// LocalAddr implements net.Conn. The address cannot be dialed.
func (c *memoryConn) LocalAddr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// RemoteAddr implements net.Conn.
func (c *memoryConn) RemoteAddr() net.Addr { return c.LocalAddr() }

// SetDeadline implements net.Conn. Deadlines are not supported: the context is the only one.
func (c *memoryConn) SetDeadline(time.Time) error { return os.ErrNoDeadline }

// SetReadDeadline implements net.Conn.
func (c *memoryConn) SetReadDeadline(time.Time) error { return os.ErrNoDeadline }

// SetWriteDeadline implements net.Conn.
func (c *memoryConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
