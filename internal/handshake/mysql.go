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
	mysqlOK               = 0x00
	mysqlMore             = 0x01
	mysqlSwitch           = 0xfe
	mysqlError            = 0xff
	mysqlQuit             = 0x01
	mysqlMaxPacket        = 1 << 20
	// mysqlNative is the plugin whose empty password is an empty packet. Those of other plugins end with a zero.
	mysqlNative = "mysql_native_password"
	// mysqlTurns limits how many packets of a login are read.
	mysqlTurns = 4
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

// exchangeMySQL logs in with a made-up name and without a password, and reads on until the server has refused that: a login that is
// broken off counts toward max_connect_errors, a refused one does not. Whatever the server answers, it has accepted the handshake; it
// answers a login without a certificate as one with a wrong password.
func exchangeMySQL(conn io.ReadWriter) (answer, error) {
	login := append(append(mysqlLogin(), madeUpUser...), 0, 0)
	login = append(append(login, mysqlNative...), 0)
	request := mysqlPacket(2, login)
	for turn := range byte(mysqlTurns) {
		body, err := ask(conn, request, readMySQL)
		if err != nil {
			return answer{}, err
		}
		switch body[0] {
		case mysqlError:
			return answer{ReplyWelcome, "completed the handshake and answered the login" + mysqlCode(body)}, nil
		case mysqlOK:
			_, _ = conn.Write(mysqlPacket(0, []byte{mysqlQuit})) // a server that has closed the connection knows
			return answer{ReplyWelcome, "completed the handshake and accepted a login without a password"}, nil
		}
		request = mysqlReply(4+2*turn, body)
	}
	return answer{ReplyWelcome, "completed the handshake and continued with the login"}, nil
}

// mysqlReply is the packet that continues a login without a password: after a request for another plugin, it is that plugin's empty
// password. After more data, which asks for nothing that rekey has, nothing is sent.
func mysqlReply(number byte, body []byte) []byte {
	if body[0] == mysqlMore {
		return nil
	}
	plugin, _, _ := bytes.Cut(body[1:], []byte{0})
	if body[0] == mysqlSwitch && string(plugin) == mysqlNative {
		return mysqlPacket(number, nil)
	}
	return mysqlPacket(number, []byte{0})
}
