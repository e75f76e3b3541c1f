// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
)

// group is what the constant Group of pkg/apis says.
const group = "dovetail.dev"

// constant of a Go file, with its comment.
type constant struct{ Name, Value, Doc string }

// constantsOf a file, in its order: those that are strings. A constant without a comment has the one of its group only when it stands alone in it.
func constantsOf(path string) ([]constant, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var found []constant
	for _, declaration := range file.Decls {
		consts, ok := declaration.(*ast.GenDecl)
		if !ok || consts.Tok != token.CONST {
			continue
		}
		for _, spec := range consts.Specs {
			values := spec.(*ast.ValueSpec)
			value, ok, err := text(values.Values[0], found)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", path, values.Names[0].Name, err)
			}
			if !ok {
				continue
			}
			doc := values.Doc.Text()
			if doc == "" && values.Comment != nil {
				doc = values.Comment.Text()
			}
			if doc == "" && len(consts.Specs) == 1 {
				doc = consts.Doc.Text()
			}
			found = append(found, constant{Name: values.Names[0].Name, Value: value, Doc: doc})
		}
	}
	return found, nil
}

// text of a constant expression: a literal, the name of another constant, or a sum of these.
func text(expression ast.Expr, known []constant) (value string, ok bool, err error) {
	switch e := expression.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false, nil
		}
		value, err := strconv.Unquote(e.Value)
		return value, err == nil, err
	case *ast.Ident:
		if e.Name == "Group" {
			return group, true, nil
		}
		for _, other := range known {
			if other.Name == e.Name {
				return other.Value, true, nil
			}
		}
		return "", false, fmt.Errorf("no constant %s before it", e.Name)
	case *ast.BinaryExpr:
		left, _, err := text(e.X, known)
		if err != nil {
			return "", false, err
		}
		right, _, err := text(e.Y, known)
		return left + right, err == nil, err
	default:
		return "", false, nil
	}
}

// prefixed are the constants whose names begin so.
func prefixed(constants []constant, prefix string) (found []constant) {
	for _, c := range constants {
		if strings.HasPrefix(c.Name, prefix) {
			found = append(found, c)
		}
	}
	return found
}
