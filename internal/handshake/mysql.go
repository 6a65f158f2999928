// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// MySQL, "Capabilities Flags" and "Connection Phase Packets".
const (
	mysqlProtocol41       = 1 << 9
	mysqlSSL              = 1 << 11
	mysqlSecureConnection = 1 << 15
	mysqlPluginAuth       = 1 << 19
	mysqlUTF8             = 33
	mysqlError            = 0xff
	mysqlMaxPacket        = 1 << 20
)

// openMySQL reads the greeting and requests TLS.
func openMySQL(conn io.ReadWriter) error {
	greeting, err := readMySQL(conn)
	if err != nil {
		return err
	}
	if err := checkGreeting(greeting); err != nil {
		return err
	}
	_, err = conn.Write(mysqlPacket(1, mysqlLogin()))
	return err
}

// mysqlLogin is the part of a login that also requests TLS.
func mysqlLogin() []byte {
	out := binary.LittleEndian.AppendUint32(nil, mysqlProtocol41|mysqlSSL|mysqlSecureConnection|mysqlPluginAuth)
	out = binary.LittleEndian.AppendUint32(out, mysqlMaxPacket)
	return append(append(out, mysqlUTF8), make([]byte, 23)...)
}

func mysqlPacket(number byte, body []byte) []byte {
	header := binary.LittleEndian.AppendUint32(nil, uint32(len(body))) //nolint:gosec // a login of a few dozen bytes
	header[3] = number
	return append(header, body...)
}

// readMySQL reads a packet.
func readMySQL(r io.Reader) ([]byte, error) {
	head, err := readFull(r, 4)
	if err != nil {
		return nil, err
	}
	body, err := readFull(r, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	if err == nil && len(body) == 0 {
		return nil, &protocolError{"does not speak MySQL: it sent an empty packet"}
	}
	return body, err
}

// checkGreeting returns an error if the server's first packet is not a greeting that offers TLS.
func checkGreeting(body []byte) error {
	if body[0] == mysqlError {
		return &busyError{"refused the connection before TLS" + mysqlCode(body)}
	}
	const version10 = 10
	_, rest, found := bytes.Cut(body[1:], []byte{0})
	// After the server's version: the connection's number, eight bytes of a nonce, a zero, the lower half of the capabilities.
	const at = 4 + 8 + 1
	if body[0] != version10 || !found || len(rest) < at+2 {
		return &plainTextError{"does not speak MySQL: its first packet is not a greeting"}
	}
	if binary.LittleEndian.Uint16(rest[at:])&mysqlSSL == 0 {
		return &plainTextError{"speaks MySQL, but has TLS turned off"}
	}
	return nil
}

// mysqlCode returns the number of an error as part of a message; empty if the packet is cut short.
func mysqlCode(body []byte) string {
	if len(body) < 3 {
		return ""
	}
	return fmt.Sprintf(" with error %d", binary.LittleEndian.Uint16(body[1:]))
}

// exchangeMySQL logs in with a made-up name and without a password. Whatever the server answers, it has accepted the handshake; it
// answers a login without a certificate as one with a wrong password.
func exchangeMySQL(conn io.ReadWriter) (answer, error) {
	login := append(append(mysqlLogin(), madeUpUser...), 0, 0)
	login = append(append(login, "mysql_native_password"...), 0)
	return ask(conn, mysqlPacket(2, login), func(r io.Reader) (answer, error) {
		body, err := readMySQL(r)
		if err != nil {
			return answer{}, err
		}
		note := "completed the handshake and continued with the login"
		if body[0] == mysqlError {
			note = "completed the handshake and answered the login" + mysqlCode(body)
		}
		return answer{ReplyWelcome, note}, nil
	})
}
