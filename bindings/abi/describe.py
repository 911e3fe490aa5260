#!/usr/bin/env python3
"""Describes the C ABI: reads fusewire_abi.h and writes what it declares, as JSON or as a C table (see table.h).

It also holds the header to its own rules. A declaration that some FFI could not read (a bit-field, a structure by value,
a variadic function, a callback, a preprocessor line) is an error here, not a surprise in a binding.

The JSON has this form, every list in the header's order:

    {"enums":     [{"name": "fusewire_opcode", "constants": {"FUSEWIRE_LOOKUP": 1, ...}}, ...],
     "opaque":    ["fusewire_connection"],
     "structs":   [{"name": "fusewire_session", "fields": [{"name": "size", "type": "uint64_t", "count": 1}, ...]}, ...],
     "functions": [{"name": "fusewire_open", "result": "int",
                    "arguments": [{"name": "out", "type": "fusewire_connection **"}, ...]}, ...]}

A field's count is the number of its elements; `array` is true where it is declared as an array.
"""

import argparse
import json
import pathlib
import re
import sys

from pycparser import c_ast, c_parser

# The header takes these from <stdint.h> and <stddef.h>; the parser wants to have seen them declared.
KINDS = {
    "char": "ABI_CHAR",
    "int": "ABI_INT32",
    "int32_t": "ABI_INT32",
    "int64_t": "ABI_INT64",
    "uint16_t": "ABI_UINT16",
    "uint32_t": "ABI_UINT32",
    "uint64_t": "ABI_UINT64",
    "size_t": "ABI_SIZE",
}
PRELUDE = "".join(f"typedef unsigned long {name};" for name in KINDS if name.endswith("_t")) + "\n"


class HeaderError(Exception):
    """The header breaks a rule of the ABI."""


def describe(path):
    """The description of the header at `path`."""
    source = pathlib.Path(path).read_text(encoding="utf-8")
    code = strip_comments(source)
    for number, line in enumerate(code.splitlines(), 1):
        if line.lstrip().startswith("#"):
            raise HeaderError(f"{path}:{number}: a preprocessor line")
    tree = c_parser.CParser().parse(PRELUDE + "#line 1\n" + code, str(path))
    return Reader().read(tree)


def strip_comments(source):
    """The source without comments, its line numbers kept."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", lambda match: " " + "\n" * match.group().count("\n"), source, flags=re.DOTALL)


class Reader:
    """Walks the syntax tree once, declaration by declaration."""

    def __init__(self):
        self.constants = {}
        self.enums = []
        self.opaque = []
        self.structs = []
        self.functions = []

    def read(self, tree):
        for node in tree.ext:
            if isinstance(node, c_ast.Typedef) and node.name in KINDS:
                continue
            if isinstance(node, c_ast.Typedef):
                self.read_typedef(node)
            elif isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.Enum):
                self.read_enum(node.type)
            elif isinstance(node, c_ast.Decl) and isinstance(node.type, c_ast.FuncDecl) and not node.funcspec:
                self.read_function(node)
            else:
                refuse(node, "neither a typedef of a structure, an enumeration nor a plain function")
        return {
            "enums": self.enums,
            "opaque": [name for name in self.opaque if name not in self.struct_names()],
            "structs": self.structs,
            "functions": self.functions,
        }

    def struct_names(self):
        return [struct["name"] for struct in self.structs]

    def read_enum(self, enum):
        constants = {}
        value = -1
        for enumerator in enum.values.enumerators:
            value = self.evaluate(enumerator.value) if enumerator.value else value + 1
            check_name(enumerator, enumerator.name, "FUSEWIRE_")
            constants[enumerator.name] = value
            self.constants[enumerator.name] = value
        self.enums.append({"name": enum.name, "constants": constants})

    def read_typedef(self, node):
        check_name(node, node.name)
        struct = node.type.type if isinstance(node.type, c_ast.TypeDecl) else None
        if not isinstance(struct, c_ast.Struct) or struct.name != node.name:
            refuse(node, "a typedef of something other than the structure of that name")
        if struct.decls is None:
            self.opaque.append(node.name)
            return
        fields = []
        for field in struct.decls:
            if getattr(field, "bitsize", None) is not None:
                refuse(field, "a bit-field")
            fields.append(self.field(field))
        self.structs.append({"name": node.name, "fields": fields})

    def field(self, node):
        declared = node.type
        count = 1
        is_array = isinstance(declared, c_ast.ArrayDecl)
        if is_array:
            count = self.evaluate(declared.dim)
            declared = declared.type
        name = self.type_name(declared)
        field = {"name": node.name, "type": name, "count": count}
        if is_array:
            field["array"] = True
        return field

    def read_function(self, node):
        check_name(node, node.name)
        result = self.type_name(node.type.type)
        if result in self.struct_names():
            refuse(node, "returns a structure by value")
        arguments = []
        if node.type.args is None:
            refuse(node, "() in place of (void)")
        for parameter in node.type.args.params:
            if isinstance(parameter, c_ast.EllipsisParam):
                refuse(node, "a variadic function")
            argument_type = self.type_name(parameter.type)
            if argument_type == "void":
                break
            if not parameter.name:
                refuse(node, "an argument without a name")
            if argument_type in self.struct_names():
                refuse(parameter, "a structure by value")
            arguments.append({"name": parameter.name, "type": argument_type})
        self.functions.append({"name": node.name, "result": result, "arguments": arguments})

    def type_name(self, node):
        """The type's canonical spelling: "const char *", "fusewire_connection **", "uint32_t"."""
        if isinstance(node, c_ast.PtrDecl):
            if node.quals:
                refuse(node, "a qualified pointer")
            target = self.type_name(node.type)
            return target + ("*" if target.endswith("*") else " *")
        if not isinstance(node, c_ast.TypeDecl) or not isinstance(node.type, c_ast.IdentifierType):
            refuse(node, "a type that is neither named nor a pointer (a callback, an array, an anonymous structure)")
        name = " ".join(node.type.names)
        if name not in KINDS and name != "void" and name not in self.opaque and name not in self.struct_names():
            refuse(node, f"the type {name}, which is not one that every FFI knows")
        return " ".join([*node.quals, name])

    def evaluate(self, node):
        if isinstance(node, c_ast.Constant):
            return int(node.value.rstrip("uUlL"), 0)
        if isinstance(node, c_ast.ID) and node.name in self.constants:
            return self.constants[node.name]
        if isinstance(node, c_ast.UnaryOp) and node.op == "-":
            return -self.evaluate(node.expr)
        if isinstance(node, c_ast.BinaryOp) and node.op in ("+", "|", "<<"):
            left, right = self.evaluate(node.left), self.evaluate(node.right)
            return {"+": left + right, "|": left | right, "<<": left << right}[node.op]
        return refuse(node, "a constant that is no plain number")


def check_name(node, name, prefix="fusewire_"):
    if not name.startswith(prefix):
        refuse(node, f"the name {name} does not begin with {prefix}")


def refuse(node, reason):
    raise HeaderError(f"{node.coord}: {reason}")


def c_table(description):
    """The description as C source; offsets, sizes and the constants' values in it are the compiler's."""
    structs = {struct["name"] for struct in description["structs"]}
    lines = ["/* Made from fusewire_abi.h by bindings/abi/describe.py. */", ""]
    lines += ['#include "table.h"', "", "#include <fusewire.h>", ""]
    for struct in description["structs"]:
        lines.append(f"static const struct abi_field fields_of_{struct['name']}[] = {{")
        for field in struct["fields"]:
            member = f"(({struct['name']} *)0)->{field['name']}"
            lines.append(
                f"    {{\"{field['name']}\", {c_type(field['type'], structs)}, "
                f"offsetof({struct['name']}, {field['name']}), sizeof({member}), {field['count']}}},"
            )
        lines += ["};", ""]
    for function in description["functions"]:
        if function["arguments"]:
            lines.append(f"static const struct abi_argument arguments_of_{function['name']}[] = {{")
            for argument in function["arguments"]:
                lines.append(f"    {{\"{argument['name']}\", {c_type(argument['type'], structs)}}},")
            lines += ["};", ""]
    lines.append("const struct abi_constant abi_constants[] = {")
    constants = [name for enum in description["enums"] for name in enum["constants"]]
    lines += [f'    {{"{name}", {name}}},' for name in constants]
    lines += ["};", f"const size_t abi_constant_count = {len(constants)};", ""]
    lines.append("const struct abi_struct abi_structs[] = {")
    for struct in description["structs"]:
        name, count = struct["name"], len(struct["fields"])
        lines.append(f'    {{"{name}", sizeof({name}), _Alignof({name}), fields_of_{name}, {count}}},')
    lines += ["};", f"const size_t abi_struct_count = {len(description['structs'])};", ""]
    lines.append("const struct abi_function abi_functions[] = {")
    for function in description["functions"]:
        name, count = function["name"], len(function["arguments"])
        arguments = f"arguments_of_{name}" if count else "NULL"
        lines.append(f"    {{\"{name}\", {c_type(function['result'], structs)}, {arguments}, {count}}},")
    lines += ["};", f"const size_t abi_function_count = {len(description['functions'])};", ""]
    return "\n".join(lines)


def c_type(spelling, structs):
    """An initializer of struct abi_type."""
    plain = spelling.replace("const ", "")
    if plain.endswith("*"):
        target = plain[:-1].rstrip()
        constant = str(spelling.startswith("const ") and not target.endswith("*")).lower()
        return f'{{"{spelling}", ABI_POINTER, "{target}", {constant}}}'
    kind = "ABI_VOID" if plain == "void" else "ABI_STRUCT" if plain in structs else KINDS[plain]
    return f'{{"{spelling}", {kind}, NULL, false}}'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("header", help="fusewire_abi.h")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the description there")
    parser.add_argument("--table", metavar="FILE", type=pathlib.Path, help="write the C table there")
    arguments = parser.parse_args()
    try:
        description = describe(arguments.header)
    except (HeaderError, OSError) as error:
        sys.exit(f"describe.py: {error}")
    if arguments.json:
        arguments.json.write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    if arguments.table:
        arguments.table.write_text(c_table(description), encoding="utf-8")
    if not arguments.json and not arguments.table:
        json.dump(description, sys.stdout, indent=1)
        print()


if __name__ == "__main__":
    main()
