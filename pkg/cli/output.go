// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/pflag"
)

const outputJSON = "json"

// Output is how a command answers: for people, or as JSON. It is a flag's value.
type Output struct{ format string }

// AddFlags adds -o.
func (o *Output) AddFlags(flags *pflag.FlagSet) {
	flags.VarP(o, "output", "o", "json, or nothing for people")
}

// Set is pflag's: what there is no such output for is refused before anything is done.
func (o *Output) Set(format string) error {
	if format != "" && format != outputJSON {
		return errors.New("the only other output is json")
	}
	o.format = format
	return nil
}

// String is the format, as pflag prints it.
func (o *Output) String() string { return o.format }

// Type is what pflag's help calls the value.
func (o *Output) Type() string { return "string" }

// JSON tells that it was asked for.
func (o *Output) JSON() bool { return o.format == outputJSON }

// Write v as JSON where that was asked for, and else what text writes.
func (o *Output) Write(w io.Writer, v any, text func(io.Writer)) error {
	if o.JSON() {
		return JSON(w, v)
	}
	out := &errorKeeper{w: Plain(w)}
	text(out)
	return out.err
}

// JSON writes v as every command does with -o json.
func JSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// errorKeeper remembers the first error, so that who prints line after line looks once.
type errorKeeper struct {
	w   io.Writer
	err error
}

func (k *errorKeeper) Write(p []byte) (int, error) {
	if k.err == nil {
		_, k.err = k.w.Write(p)
	}
	return len(p), nil
}

// Table writes rows under headings, in columns as wide as they need.
func Table(w io.Writer, headings string, rows func(row func(format string, cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, headings)
	rows(func(format string, cells ...any) { fmt.Fprintf(t, format+"\n", cells...) })
	_ = t.Flush() // errors are the writer's
}
