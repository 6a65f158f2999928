// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !failpoints

package main

import (
	"k8s.io/client-go/rest"

	"github.com/rekey/rekey/controllers"
)

// instrument is where a binary that is built with the tag failpoints learns to die on purpose. This one does not.
func instrument(*rest.Config, *controllers.Options) error { return nil }
