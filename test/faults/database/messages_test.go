// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// readUntyped reads a message from the start of a connection: its length, then the rest.
func readUntyped(from io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(from, head); err != nil {
		return nil, fmt.Errorf("reading a length: %w", err)
	}
	return readRest(from, head, binary.BigEndian.Uint32(head))
}

// readMessage reads type, length and the rest.
func readMessage(from io.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if n, err := io.ReadFull(from, head); err != nil {
		return head[:n], fmt.Errorf("reading a message: %w", err)
	}
	return readRest(from, head, binary.BigEndian.Uint32(head[1:]))
}

func readRest(from io.Reader, head []byte, length uint32) ([]byte, error) {
	if length < 4 || length > longest {
		return nil, errors.New("a message has a wrong length")
	}
	body := make([]byte, length-4)
	n, err := io.ReadFull(from, body)
	if err != nil {
		err = fmt.Errorf("reading the rest of a message: %w", err)
	}
	return append(head, body[:n]...), err
}

// parameter reads a parameter of the startup message: pairs of strings, each terminated by a zero byte.
func parameter(startup []byte, name string) string {
	words := strings.Split(string(startup[8:]), "\x00")
	if i := slices.Index(words, name); i >= 0 && i%2 == 0 && i+1 < len(words) {
		return words[i+1]
	}
	return ""
}

// readRequest reads until the server must respond, and returns the SQL.
func readRequest(from io.Reader) (request []byte, what string, err error) {
	for {
		message, err := readMessage(from)
		if err != nil {
			return nil, "", err
		}
		request = append(request, message...)
		switch message[0] {
		case 'p':
			return request, "password", nil
		case 'Q':
			return request, strings.TrimRight(string(message[5:]), "\x00"), nil
		case 'P':
			_, sql, _ := strings.Cut(string(message[5:]), "\x00")
			what, _, _ = strings.Cut(sql, "\x00")
		case 'S', 'X':
			return request, what, nil
		}
	}
}

// readResponse reads until it is rekey's turn again. It also returns what came before the connection ended.
func readResponse(from io.Reader) ([]byte, error) {
	var answer []byte
	for {
		message, err := readMessage(from)
		answer = append(answer, message...)
		if err != nil {
			return answer, err
		}
		if message[0] == 'Z' {
			return answer, nil
		}
		// A request for a password: SASL, or the next of its messages.
		if message[0] == 'R' && slices.Contains([]uint32{3, 5, 10, 11}, binary.BigEndian.Uint32(message[5:])) {
			return answer, nil
		}
	}
}
