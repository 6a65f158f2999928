// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"context"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Tracer returns a tracer with a point before and after every statement that changes something.
func (p *Points) Tracer() pgx.QueryTracer { return tracer{p} }

type tracer struct {
	points *Points
}

// Context keys.
type (
	callKey      struct{} // the call of the engine, a string
	statementKey struct{} // the statement in progress, a string
)

// TraceQueryStart implements pgx.QueryTracer.
func (t tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	words := wordsOf(data.SQL)
	if words == "" {
		return context.WithValue(ctx, statementKey{}, "")
	}
	call, _ := ctx.Value(callKey{}).(string)
	what := call + ": " + words
	t.points.pass("before", what)
	return context.WithValue(ctx, statementKey{}, what)
}

// TraceQueryEnd implements pgx.QueryTracer.
func (t tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if what, _ := ctx.Value(statementKey{}).(string); what != "" {
		t.points.pass("after", what)
	}
}

// mostWords is the number of words of a statement that make up its name.
const mostWords = 4

// idle are the statements that change nothing: queries, and what the end of the connection does as well.
var idle = []string{"SELECT", "WITH", "SHOW", "ROLLBACK"}

// wordsOf names a statement by its first words, without the quoted names and strings in it; empty for one that changes
// nothing.
func wordsOf(statement string) string {
	var plain strings.Builder
	quote := rune(0)
	for _, c := range statement {
		switch {
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0:
			plain.WriteRune(c)
		case c == quote:
			quote = 0
		}
	}
	words := strings.Fields(plain.String())
	if len(words) == 0 || slices.Contains(idle, strings.ToUpper(words[0])) {
		return ""
	}
	return strings.Join(words[:min(len(words), mostWords)], " ")
}
