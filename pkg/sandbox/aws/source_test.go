// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// source is what the package's own code says about the errors that a call can end with.
type source struct {
	info     *types.Info
	bodies   map[types.Object]ast.Node // functions, and variables of the package
	byName   map[string]types.Object
	handlers map[string]string // of actions
	// structures are the types of the package that are structures.
	structures map[string]*ast.StructType
}

// facts are the error codes and the filter names in a part of the code.
type facts struct{ codes, filters map[string]bool }

// tagFilters are those of a resource with tags; tag: stands for tag:KEY.
var tagFilters = []string{"tag:", "tag-key"}

// withoutImports stands in for the SDK: the package's own names resolve without it, and quickly.
type withoutImports struct{ standard types.Importer }

func (i withoutImports) Import(path string) (*types.Package, error) {
	if !strings.Contains(path, ".") {
		if p, err := i.standard.Import(path); err == nil {
			return p, nil
		}
	}
	p := types.NewPackage(path, path[strings.LastIndexByte(path, '/')+1:])
	p.MarkComplete()
	return p, nil
}

func readSource(t *testing.T) *source {
	set := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	s := &source{
		info:   &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}},
		bodies: map[types.Object]ast.Node{}, byName: map[string]types.Object{}, handlers: map[string]string{},
		structures: map[string]*ast.StructType{},
	}
	var files []*ast.File
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			f, err := parser.ParseFile(set, name, nil, 0)
			require.NoError(t, err)
			files = append(files, f)
		}
	}
	config := types.Config{Importer: withoutImports{importer.Default()}, Error: func(error) {}} // of the names of imports
	_, _ = config.Check("aws", set, files, s.info)
	for _, f := range files {
		for _, d := range f.Decls {
			s.declare(d)
		}
	}
	s.findHandlers()
	return s
}

func (s *source) declare(d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		object := s.info.Defs[d.Name]
		s.bodies[object] = d
		s.byName[d.Name.Name] = object
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if named, ok := spec.(*ast.TypeSpec); ok {
				if structure, ok := named.Type.(*ast.StructType); ok {
					s.structures[named.Name.Name] = structure
				}
			}
			if values, ok := spec.(*ast.ValueSpec); ok {
				for i, name := range values.Names {
					if i < len(values.Values) {
						s.bodies[s.info.Defs[name]] = values.Values[i]
					}
				}
			}
		}
	}
}

// findHandlers reads the list of actions: "Name": read("...", (*request).handler).
func (s *source) findHandlers() {
	ast.Inspect(s.bodies[s.byName["ec2Actions"]], func(n ast.Node) bool {
		entry, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		if call, ok := entry.Value.(*ast.CallExpr); ok {
			if handler, ok := call.Args[len(call.Args)-1].(*ast.SelectorExpr); ok {
				s.handlers[text(entry.Key)] = handler.Sel.Name
			}
		}
		return true
	})
}

// below gathers the facts of a function and of all that it mentions, but for the handlers of actions, and for what finds out which
// rights a request needs: that errs without ending a call.
func (s *source) below(function string) facts {
	f := facts{map[string]bool{}, map[string]bool{}}
	s.gather(s.byName[function], f, map[types.Object]bool{s.byName["resources"]: true})
	return f
}

func (s *source) gather(object types.Object, f facts, seen map[types.Object]bool) {
	if method, ok := object.(*types.Func); ok {
		object = method.Origin()
	}
	body := s.bodies[object]
	if body == nil || seen[object] {
		return
	}
	seen[object] = true
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			s.codesOf(n, f)
		case *ast.CompositeLit:
			// A kind of resource: its codes are the second and the third member.
			if name, ok := n.Type.(*ast.Ident); ok && name.Name == "kind" && len(n.Elts) == 4 {
				f.codes[text(n.Elts[1])], f.codes[text(n.Elts[2])] = true, true
			}
		case *ast.SwitchStmt:
			if tag, ok := n.Tag.(*ast.Ident); ok && tag.Name == "name" {
				for _, clause := range n.Body.List {
					for _, value := range clause.(*ast.CaseClause).List {
						if filter := text(value); filter != "" {
							f.filters[filter] = true
						}
					}
				}
			}
		case *ast.Ident:
			if n.Name == "with" {
				for _, name := range tagFilters {
					f.filters[name] = true
				}
			}
			s.gather(s.info.Uses[n], f, seen)
		}
		return true
	})
}

// codesOf takes the literals that are passed for parameters with the name code.
func (s *source) codesOf(call *ast.CallExpr, f facts) {
	var name *ast.Ident
	switch function := call.Fun.(type) {
	case *ast.Ident:
		name = function
	case *ast.SelectorExpr:
		name = function.Sel
	default:
		return
	}
	function, ok := s.info.Uses[name].(*types.Func)
	if !ok {
		return
	}
	parameters := function.Signature().Params()
	for i := range min(parameters.Len(), len(call.Args)) {
		if parameters.At(i).Name() == "code" {
			if code := text(call.Args[i]); code != "" {
				f.codes[code] = true
			}
		}
	}
}

// text is the value of a string literal, "" of anything else.
func text(e ast.Expr) string {
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	value, _ := strconv.Unquote(literal.Value)
	return value
}

// An error code that is not a literal would be missing in the table.
func TestEveryErrorCodeIsInTheCodeAsALiteral(t *testing.T) {
	s := readSource(t)
	for object, body := range s.bodies {
		ast.Inspect(body, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			name, ok := call.Fun.(*ast.Ident)
			if !ok || name.Name != "clientError" && name.Name != "statusError" {
				return true
			}
			at := 0
			if name.Name == "statusError" {
				at = 1
			}
			if text(call.Args[at]) != "" {
				return true
			}
			// Codes that come from elsewhere: from a parameter "code", from a kind, or from an injected fault.
			switch code := call.Args[at].(type) {
			case *ast.Ident:
				require.Equal(t, "code", code.Name, "%s", object)
			case *ast.SelectorExpr:
				require.Contains(t, []string{"malformed", "notFound", "Code"}, code.Sel.Name, "%s", object)
			default:
				require.Failf(t, "an error code is computed", "%s", object)
			}
			return true
		})
	}
}
