// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/rekey/rekey/internal/fault"
)

// DecodeSettings decodes an engine's block in a spec strictly: a field that the engine does not know is an error, because the
// credential would not be what the spec requests. Empty settings do not change into. what names the block in the error.
func DecodeSettings(settings []byte, into any, what string) error {
	if len(settings) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(settings))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil && decoder.More() {
		err = errors.New("there is more data after it")
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return fault.Permanent(fault.ServerUnsupported, fmt.Errorf("reading %s: this version of rekey does not know all of it: %w", what, err))
	}
	return nil
}
